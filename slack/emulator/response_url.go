package emulator

import (
	"net/http"
	"slices"
	"time"
)

const (
	responseURLUses = 5
	responseURLLife = 30 * time.Minute
	maxResponseURLs = 5000
)

// responseURL lets the app answer the person who acted, for a while.
type responseURL struct {
	user, channel, ts string
	secret            string
	uses              int
	expires           time.Time
}

// newResponseURL makes the response_url of an interaction with a message, or of a command,
// which has no message (ts is "").
func (s *Server) newResponseURL(user, channel, ts string) string {
	now := s.now()
	if len(s.responseURLs) >= maxResponseURLs {
		for id, u := range s.responseURLs {
			if now.After(u.expires) {
				delete(s.responseURLs, id)
			}
		}
	}
	id, secret := s.nextID(""), s.nextID("")+s.nextID("")
	s.responseURLs[id] = &responseURL{user: user, channel: channel, ts: ts, secret: secret, expires: now.Add(responseURLLife)}
	return s.baseURL + "/actions/" + s.cfg.TeamID + "/" + id + "/" + secret
}

func (s *Server) serveResponseURL(w http.ResponseWriter, r *http.Request) {
	fault := s.takeFault("response_url")
	if s.meet(fault, w, r) {
		return
	}
	status, answer := s.respond(r)
	if s.meetAfter(fault, w) {
		return
	}
	writeJSON(w, status, answer)
}

// respond does what was posted to a response_url. Unlike the Web API, failures have a status.
func (s *Server) respond(r *http.Request) (int, object) {
	args, err := readJSON(r, object{})
	if err != nil {
		return http.StatusBadRequest, failure(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.responseURLs[r.PathValue("id")]
	now := s.now()
	switch {
	case u == nil || u.secret != r.PathValue("secret") || r.PathValue("team") != s.cfg.TeamID:
		return http.StatusNotFound, object{"ok": false, "error": "invalid_url"}
	case now.After(u.expires):
		return http.StatusNotFound, object{"ok": false, "error": "expired_url"}
	case u.uses >= responseURLUses:
		return http.StatusNotFound, object{"ok": false, "error": "used_url"}
	}
	c := &call{Server: s, args: args, now: now}
	if err := c.useResponseURL(u); err != nil {
		return http.StatusBadRequest, failure(err)
	}
	u.uses++
	return http.StatusOK, object{"ok": true}
}

func (c *call) useResponseURL(u *responseURL) error {
	ch := c.channels[u.channel]
	if ch == nil {
		return fail("channel_not_found")
	}
	if c.flag("delete_original") {
		c.dropOriginal(ch, u)
		return nil
	}
	d, err := c.readDraft()
	if err != nil {
		return err
	}
	if c.flag("replace_original") {
		return c.replaceOriginal(ch, u, d)
	}
	_, err = c.say(ch, u.user, d)
	return err
}

// say posts a new message: to the person alone unless response_type is in_channel.
func (c *call) say(ch *channel, user string, d draft) (*message, error) {
	parent, err := c.parentOf(ch)
	if err != nil {
		return nil, err
	}
	if c.str("response_type") != "in_channel" {
		m := c.whisper(ch, user, d)
		m.threadTS = parent
		return m, nil
	}
	m := &message{
		channel: ch.ID, ts: ch.nextTS(c.now), threadTS: parent, user: c.cfg.BotUserID,
		text: truncateText(d.text), blocks: d.blocks,
	}
	c.publish(ch, m)
	return m, nil
}

// original finds the message that was acted on; an ephemeral one has to be this person's.
func (c *call) original(ch *channel, u *responseURL) *message {
	i := slices.IndexFunc(c.ephemerals, func(m *message) bool {
		return m.channel == u.channel && m.ts == u.ts && m.ephemeralTo == u.user
	})
	if i >= 0 {
		return c.ephemerals[i]
	}
	return ch.byTS[u.ts]
}

func (c *call) replaceOriginal(ch *channel, u *responseURL, d draft) error {
	m := c.original(ch, u)
	if m == nil {
		return fail("message_not_found")
	}
	m.edit(d.text, d.blocks)
	c.touch()
	return nil
}

func (c *call) dropOriginal(ch *channel, u *responseURL) {
	m := c.original(ch, u)
	switch {
	case m == nil:
		return
	case m.ephemeralTo != "":
		c.ephemerals = slices.DeleteFunc(c.ephemerals, func(o *message) bool { return o == m })
	default:
		ch.remove(m)
	}
	c.touch()
}
