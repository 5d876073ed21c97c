package notify

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs/crashpoint"
	"countersign/slack"
)

// postTask is what to do about a post. What belongs to one card goes one after the other.
func (s *Sender) postTask(p db.Post) task {
	t := task{key: "post/" + p.ID.String(), method: methodPost, room: p.Destination, priority: p.Priority}
	if p.Handle != "" {
		t.key = "card/" + p.Handle
	}
	t.do = func(ctx context.Context) bool { return s.post(ctx, p) }
	if p.State == db.PostUnknown {
		t.method, t.room = methodHistory, ""
		t.do = func(ctx context.Context) bool { return s.settle(ctx, p) }
	}
	return t
}

// post takes a post up, renders it and sends it.
func (s *Sender) post(ctx context.Context, due db.Post) (called bool) {
	begun := s.c.Now()
	p, mine, err := s.c.Store.ClaimPost(ctx, due, s.c.CallLease)
	if err != nil || !mine {
		s.trouble(ctx, "a post cannot be taken up", due, err)
		return false
	}
	crashpoint.Hit("outbox.claimed")
	out, hash, err := s.render(ctx, p)
	if err != nil {
		s.notRendered(ctx, due, p, err)
		return false
	}
	room, err := s.whereTo(ctx, p, out)
	if err != nil {
		s.notRendered(ctx, due, p, err)
		return false
	}
	if !s.inTime(begun) {
		s.back(ctx, due, p, 0, "it took too long to prepare")
		return false
	}
	ref, err := s.send(ctx, p, room, out, out.Message, due.Reason == reasonThere)
	if unpostable(err) {
		ref, err = s.sendPlain(ctx, p, room, &out, err)
		hash = ""
	}
	if err != nil {
		s.notPosted(ctx, due, p, err)
		return true
	}
	crashpoint.Hit("outbox.posted")
	s.posted(ctx, p, db.Shown{Channel: ref.Channel, TS: ref.TS, Version: out.Version, Rendered: hash})
	return true
}

// inTime reports whether there is still time for a call within the lease of what was taken up
// at begun. Whoever was stopped in between must not send what is somebody else's by now.
func (s *Sender) inTime(begun time.Time) bool { return s.c.Now().Sub(begun) < s.c.CallLease/2 }

// render renders a post, and keeps what can be decided on before anybody can see it.
func (s *Sender) render(ctx context.Context, p db.Post) (out Outgoing, hash string, err error) {
	if out, err = s.c.Content.Post(ctx, p); err == nil && out.Keep {
		hash, err = s.c.Store.KeepRendering(ctx, p.TicketID, out.Message.JSON())
	}
	return out, hash, err
}

// whereTo is the conversation itself for what goes below a message there.
func (s *Sender) whereTo(ctx context.Context, p db.Post, out Outgoing) (string, error) {
	if out.ThreadTS == "" || p.Handle == "" {
		return p.Destination, nil
	}
	card, err := s.c.Store.CardByHandle(ctx, p.Handle)
	return cmp.Or(card.PostedTo, p.Destination), err
}

const (
	metadataType = "countersign_post"
	metadataKey  = "outbox_id"
)

// send makes the call. Every try of one post has the same client_msg_id, by which Slack may
// know it again; anew is for a message that Slack says it has and will not say where.
func (s *Sender) send(ctx context.Context, p db.Post, room string, out Outgoing, m slack.Message, anew bool) (slack.Ref, error) {
	id := uuid.NewSHA1(uuid.NameSpaceURL, p.ID[:])
	if anew {
		id = uuid.NewSHA1(id, []byte(strconv.Itoa(p.Attempts)))
	}
	ref, err := s.c.Client.Post(ctx, room, m, slack.PostOptions{
		ThreadTS: out.ThreadTS, Broadcast: out.Broadcast, ClientMsgID: id.String(),
		Metadata: &slack.Metadata{EventType: metadataType, Payload: map[string]string{metadataKey: p.ID.String()}},
	})
	s.answered(ctx, err)
	if err == nil {
		s.rooms.learn(p.Destination, ref.Channel)
	}
	return ref, err
}

// unpostable reports whether Slack does not take the blocks.
func unpostable(err error) bool {
	var e *slack.Error
	if !errors.As(err, &e) || e.Class != slack.Permanent {
		return false
	}
	return strings.HasPrefix(e.Code, "invalid_blocks") || e.Code == "msg_blocks_too_long" || e.Code == "msg_too_long" || e.Code == "refused_here"
}

// sendPlain sends a message without what Slack did not take, once. What can be decided on is
// then not what was kept.
func (s *Sender) sendPlain(ctx context.Context, p db.Post, room string, out *Outgoing, why error) (slack.Ref, error) {
	s.invalid(ctx, why, slog.String("name", p.Name), slog.String("ticket_id", p.TicketID))
	return s.send(ctx, p, room, *out, plainOf(*out), false)
}

// invalid is an alarm: what is sent is checked before, and Slack takes it for wrong all the
// same.
func (s *Sender) invalid(ctx context.Context, why error, attrs ...slog.Attr) {
	var e *slack.Error
	if errors.As(why, &e) {
		attrs = append(attrs, slog.String("code", e.Code), slog.Any("details", e.Details))
	}
	s.log.LogAttrs(ctx, slog.LevelError, "slack takes a message for invalid; a plain one is sent instead", attrs...)
}

func plainOf(out Outgoing) slack.Message {
	if out.Plain != nil {
		return out.Plain()
	}
	return slack.Message{Text: out.Message.Text}
}

// posted records a post. Should the database not take it within the lease, the post becomes
// unknown, and is looked for.
func (s *Sender) posted(ctx context.Context, p db.Post, at db.Shown) {
	card, err := s.cardOf(ctx, p)
	if err == nil {
		err = s.persist(ctx, func() error {
			return s.c.Store.SentPost(ctx, p, at, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return t.Notified(s.c.Name, approvals.Card{Stage: card.Stage, Channel: at.Channel, TS: at.TS, Version: at.Version}, now)
			})
		})
	}
	s.trouble(ctx, "a post cannot be recorded", p, err)
	crashpoint.Hit("outbox.recorded")
}

// cardOf is the card that a post is, or the zero card.
func (s *Sender) cardOf(ctx context.Context, p db.Post) (card db.Card, err error) {
	if p.Kind.IsCard() && p.Handle != "" {
		err = s.persist(ctx, func() error {
			card, err = s.c.Store.CardByHandle(ctx, p.Handle)
			return err
		})
	}
	return card, err
}

// persist tries to write for as long as the lease of a call lasts.
func (s *Sender) persist(ctx context.Context, write func() error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := write()
		if err == nil || !errors.Is(err, db.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// notRendered sees to a post that was taken up and not sent.
func (s *Sender) notRendered(ctx context.Context, due, p db.Post, err error) {
	var never *Undeliverable
	switch {
	case errors.Is(err, ErrOver):
		s.trouble(ctx, "a post cannot be dropped", p, s.c.Store.GiveUpPost(ctx, p, db.PostDropped, "it had become pointless"))
	case errors.As(err, &never):
		s.dead(ctx, due, p, never.Reason)
	default:
		s.trouble(ctx, "a post cannot be rendered", p, err)
		s.back(ctx, due, p, backoff(p.Attempts), "it could not be rendered")
	}
}

// notPosted sees to a post that Slack did not confirm.
func (s *Sender) notPosted(ctx context.Context, due, p db.Post, err error) {
	var e *slack.Error
	if !errors.As(err, &e) {
		e = &slack.Error{Class: slack.Ambiguous, Method: methodPost, Code: "unexpected"}
	}
	reason := string(e.Class) + ": " + e.Code
	switch e.Class {
	case slack.App:
		s.back(ctx, due, p, 0, reason)
	case slack.Retryable:
		s.back(ctx, due, p, backoff(p.Attempts), reason)
	case slack.Permanent:
		s.dead(ctx, due, p, e.Code)
	case slack.Ambiguous, slack.RateLimited:
		s.doubt(ctx, p, e, reason)
	}
}

// back returns a post that was certainly not sent this time: what was in doubt before still
// is.
func (s *Sender) back(ctx context.Context, due, p db.Post, wait time.Duration, reason string) {
	if due.Reason == reasonThere {
		reason = reasonThere
	}
	s.trouble(ctx, "a post cannot be returned", p, s.c.Store.ReturnPost(ctx, p, due.State, wait, reason))
}

// dead gives a post up, after what happens instead is planned: a process that dies in between
// asks Slack again and plans the same.
func (s *Sender) dead(ctx context.Context, due, p db.Post, reason string) {
	s.log.WarnContext(ctx, "slack will never take a post", slog.String("name", p.Name), slog.String("ticket_id", p.TicketID),
		slog.String("destination", p.Destination), slog.String("reason", reason))
	if err := s.c.Content.Dead(ctx, p, reason); err != nil {
		s.trouble(ctx, "what happens instead of a post cannot be planned", p, err)
		s.back(ctx, due, p, backoff(p.Attempts), reason)
		return
	}
	s.trouble(ctx, "a post cannot be given up", p, s.c.Store.GiveUpPost(ctx, p, db.PostDead, reason))
}

// backoff is the pause before the next try of one thing, however Slack does otherwise.
func backoff(attempts int) time.Duration {
	return min(time.Second<<min(max(attempts-1, 0), 10), time.Minute)
}

// trouble logs what went wrong with a post, if anything did.
func (s *Sender) trouble(ctx context.Context, what string, p db.Post, err error) {
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "trouble with a post", slog.String("what", what), slog.String("name", p.Name), slog.String("ticket_id", p.TicketID), slog.Any("error", err))
	}
}
