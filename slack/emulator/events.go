package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultEvents returns the event subscriptions of Countersign's app manifest and team_join.
func DefaultEvents() []string {
	return []string{
		"app_home_opened", "subteam_members_changed", "subteam_updated", "user_change", "team_join",
		"channel_archive", "channel_id_changed", "channel_shared", "app_uninstalled", "tokens_revoked",
	}
}

// eventScopes is what the bot token needs for an event to be sent; any one of a list will do.
var eventScopes = map[string][]string{
	"subteam_members_changed": {"usergroups:read"},
	"subteam_updated":         {"usergroups:read"},
	"subteam_created":         {"usergroups:read"},
	"user_change":             {"users:read"},
	"team_join":               {"users:read"},
	"channel_archive":         {"channels:read"},
	"channel_id_changed":      {"channels:read", "groups:read"},
	"channel_shared":          {"channels:read", "groups:read"},
	"message.channels":        {"channels:history"},
	"message.groups":          {"groups:history"},
	"message.im":              {"im:history"},
}

// retryWaits is how long after one attempt Slack makes the next.
var retryWaits = []time.Duration{0, time.Minute, 5 * time.Minute}

// maxEvents bounds how many events wait to be delivered; the oldest are forgotten.
const maxEvents = 10_000

// event is one event on its way to the app.
type event struct {
	name  string
	body  string        // the event_callback as JSON
	first chan struct{} // closed after the first attempt
	took  time.Duration // of the first attempt
	ok    bool
	last  *socket // the connection that did not answer
}

// fire queues an event if the app subscribed to it and may see it; the lock is held. The
// answer is nil when it is not sent.
func (s *Server) fire(name string, inner object) *event {
	if !slices.Contains(s.cfg.Events, name) || !s.listens() {
		return nil
	}
	if scopes := eventScopes[name]; len(scopes) > 0 && !slices.ContainsFunc(scopes, func(sc string) bool { return hasScope(s.botToken().scopes, sc) }) {
		return nil
	}
	return s.queue(name, inner)
}

// listens says whether there is anywhere to send events to.
func (s *Server) listens() bool { return s.socketMode || s.eventsURL != "" }

func (s *Server) queue(name string, inner object) *event {
	now := s.now()
	inner = maps.Clone(inner)
	if inner["event_ts"] == nil {
		inner["event_ts"] = fmt.Sprintf("%d.%06d", now.Unix(), now.Nanosecond()/1000)
	}
	e := &event{name: name, first: make(chan struct{}), body: encode(object{
		"token": "deprecated", "team_id": s.cfg.TeamID, "context_team_id": s.cfg.TeamID, "api_app_id": s.cfg.AppID,
		"event": inner, "type": "event_callback", "event_id": s.nextID("Ev"), "event_time": now.Unix(),
		"authorizations": []any{object{
			"enterprise_id": orNull(s.cfg.EnterpriseID), "team_id": s.cfg.TeamID, "user_id": s.cfg.BotUserID,
			"is_bot": true, "is_enterprise_install": s.cfg.OrgInstall,
		}},
		"is_ext_shared_channel": s.isExtShared(inner["channel"]),
	})}
	s.events = lastOf(append(s.events, e), maxEvents)
	s.inFlight++
	if !s.draining {
		s.draining = true
		go s.sendEvents()
	}
	s.touch()
	return e
}

func (s *Server) isExtShared(id any) bool {
	name, _ := id.(string)
	ch := s.channels[name]
	return ch != nil && ch.ExtShared
}

// Fire sends an event of the caller's making, whatever the app subscribed to; its "type" says
// which it is. It returns once the first attempt is over, or when ctx ends.
func (s *Server) Fire(ctx context.Context, inner map[string]any) error {
	s.mu.Lock()
	name, _ := inner["type"].(string)
	if name == "" || !s.listens() {
		s.mu.Unlock()
		return fmt.Errorf("%w: an event type, or anywhere to send it", ErrNotFound)
	}
	e := s.queue(name, inner)
	s.mu.Unlock()
	return s.attempted(ctx, e)
}

func (s *Server) attempted(ctx context.Context, e *event) error {
	select {
	case <-e.first:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for event %s: %w", e.name, ctx.Err())
	case <-s.done:
		return fmt.Errorf("wait for event %s: %w", e.name, context.Canceled)
	}
}

// drainEvents makes the first attempts, one at a time and in order, until none is left.
func (s *Server) drainEvents() {
	for {
		e, late := s.nextEvent()
		if e == nil {
			return
		}
		if late {
			continue
		}
		s.attemptFirst(e)
		for _, held := range s.takeAside() {
			s.attemptFirst(held)
		}
	}
}

// nextEvent returns the event to send now; late says that it was put aside until another has
// gone, because a fault asked for that.
func (s *Server) nextEvent() (e *event, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 || s.isClosed() {
		s.draining = false
		return nil, false
	}
	e, s.events = s.events[0], s.events[1:]
	if s.planned(ForEvents) == OutOfOrder {
		s.useFault(ForEvents)
		s.aside = append(s.aside, e)
		return e, true
	}
	return e, false
}

func (s *Server) takeAside() []*event {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.aside
	s.aside = nil
	return held
}

// releaseAside sends what OutOfOrder holds back; the lock is held.
func (s *Server) releaseAside() {
	s.events = append(s.aside, s.events...)
	s.aside = nil
	if len(s.events) > 0 && !s.draining {
		s.draining = true
		go s.sendEvents()
	}
}

func (s *Server) attemptFirst(e *event) {
	at := s.now()
	a := s.attempt(e, 0, "")
	e.took, e.ok = a.took, a.accepted()
	close(e.first)
	s.after(e, a, 0, at)
}

// after plans the retry number n+1 of an event, or is done with it.
func (s *Server) after(e *event, a ack, n int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.touch()
	if a.accepted() || a.noRetry || n >= len(retryWaits) {
		return
	}
	e.last = a.socket
	due := at.Add(retryWaits[n])
	s.retries[e] = due
	go s.retryAt(e, n+1, a.reason(), due)
}

func (s *Server) retryAt(e *event, n int, reason string, due time.Time) {
	if !s.clock.until(due, s.done) {
		return
	}
	s.mu.Lock()
	delete(s.retries, e)
	s.inFlight++
	s.mu.Unlock()
	at := s.now()
	s.after(e, s.attempt(e, n, reason), n, at)
}

// attempt sends an event once.
func (s *Server) attempt(e *event, retry int, reason string) ack {
	ctx := s.life()
	p := parcel{
		class: ForEvents, kind: e.name, body: []byte(e.body), contentType: "application/json",
		payload: e.body, envelope: "events_api", retry: retry, reason: reason, avoid: e.last,
	}
	if a, ok := s.verified(ctx); !ok {
		return a
	}
	return s.deliver(ctx, p)
}

// WaitEvents returns once every event that is due has been attempted, retries included, and
// nothing more will happen until the clock moves on.
func (s *Server) WaitEvents(ctx context.Context) error {
	for {
		s.mu.Lock()
		quiet, changed := s.quiet(), s.changed
		s.mu.Unlock()
		if quiet {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for events: %w", ctx.Err())
		case <-s.done:
			return fmt.Errorf("wait for events: %w", context.Canceled)
		}
	}
}

func (s *Server) quiet() bool {
	now := s.now()
	for _, due := range s.retries {
		if !due.After(now) {
			return false
		}
	}
	return s.inFlight == len(s.aside)
}

// accepted says whether an event was taken: any 2xx will do.
func (a ack) accepted() bool { return a.err == nil && a.status >= 200 && a.status < 300 }

// reason is Slack's word for why an event was not taken.
func (a ack) reason() string {
	switch {
	case a.late:
		return "http_timeout"
	case a.err != nil && strings.Contains(a.err.Error(), "redirect"):
		return "too_many_redirects"
	case a.err != nil:
		return "connection_failed"
	default:
		return "http_error"
	}
}

// retryHeaders mark a further attempt at an event.
func retryHeaders(h http.Header, p parcel) {
	if p.retry > 0 {
		h.Set("X-Slack-Retry-Num", strconv.Itoa(p.retry))
		h.Set("X-Slack-Retry-Reason", p.reason)
	}
}

// SetEventsURL says where events go from now on; empty means nowhere. The url_verification
// handshake comes before the first event.
func (s *Server) SetEventsURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventsURL, s.eventsVerified = url, false
	s.touch()
}

// VerifyEventsURL makes the url_verification handshake now, as saving the URL in an app's
// settings does, and says what is wrong with the answer.
func (s *Server) VerifyEventsURL(ctx context.Context) error {
	a, ok := s.verified(ctx)
	if !ok {
		return fmt.Errorf("verify the events URL: %w", a.err)
	}
	return nil
}

// verified makes the handshake unless it was made already or sockets need none.
func (s *Server) verified(ctx context.Context) (ack, bool) {
	s.mu.Lock()
	if s.socketMode || s.eventsVerified {
		s.mu.Unlock()
		return ack{}, true
	}
	target, challenge := s.eventsURL, strings.ToLower(s.nextID("")+s.nextID(""))
	s.mu.Unlock()
	a := s.deliver(ctx, parcel{
		class: ForEvents, kind: "url_verification", contentType: "application/json", plain: true,
		body: []byte(encode(object{"token": "deprecated", "challenge": challenge, "type": "url_verification"})),
	})
	if a.err == nil && (a.status != http.StatusOK || !echoes(a, challenge)) {
		a.err = fmt.Errorf("the answer (HTTP %d) does not echo the challenge", a.status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventsVerified = a.err == nil && s.eventsURL == target
	if a.err != nil {
		s.log.WarnContext(ctx, "slack emulator could not verify the events URL", slog.String("error", a.err.Error()))
	}
	return a, a.err == nil
}

// echoes says whether an answer holds the challenge: as text, a form field or JSON.
func echoes(a ack, challenge string) bool {
	body := strings.TrimSpace(string(a.body))
	var answer struct {
		Challenge string `json:"challenge"`
	}
	return body == challenge || body == "challenge="+challenge ||
		json.Unmarshal(a.body, &answer) == nil && answer.Challenge == challenge
}
