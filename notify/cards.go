package notify

import (
	"context"
	"errors"
	"log/slog"

	"countersign/db"
	"countersign/jobs/crashpoint"
	"countersign/slack"
)

// placeTask is what to do about a message that shows an older version of its ticket. One that
// can never be updated is no call to Slack.
func (s *Sender) placeTask(p db.Place) task {
	t := task{key: "place/" + p.Channel + "/" + p.TS, method: methodUpdate, priority: priorityProgress}
	if p.Final {
		t.priority = priorityFinal
	}
	if p.Frozen != "" {
		t.method = ""
	}
	t.do = func(ctx context.Context) bool { return s.update(ctx, p) }
	return t
}

// update brings a message up to date: one call at a time for each, and always from the state
// of now, so that however many changes there were, one call shows the last.
func (s *Sender) update(ctx context.Context, due db.Place) (called bool) {
	begun := s.c.Now()
	p, mine, err := s.c.Store.ClaimPlace(ctx, due, s.c.CallLease)
	if err != nil || !mine {
		s.problem(ctx, "a card cannot be taken up", due, err)
		return false
	}
	if p.Frozen != "" {
		s.sayBelow(ctx, p)
		return false
	}
	out, hash, err := s.renderCard(ctx, p)
	switch {
	case errors.Is(err, ErrOver):
		s.problem(ctx, "a card cannot be recorded", p, s.c.Store.PlaceShown(ctx, p, p.Card.Desired, p.Card.Rendered))
		return false
	case err != nil || !s.inTime(begun):
		s.problem(ctx, "a card cannot be rendered", p, err)
		s.problem(ctx, "a card cannot be returned", p, s.c.Store.PlaceLater(ctx, p, backoff(p.Attempts)))
		return false
	}
	err = s.edit(ctx, p, out.Message)
	if unpostable(err) {
		s.invalid(ctx, err, slog.String("ticket_id", p.Card.TicketID))
		hash, err = "", s.edit(ctx, p, plainOf(out))
	}
	s.updated(ctx, p, out.Version, hash, err)
	return true
}

func (s *Sender) renderCard(ctx context.Context, p db.Place) (out Outgoing, hash string, err error) {
	if out, err = s.c.Content.Card(ctx, p.Card); err == nil && out.Keep {
		hash, err = s.c.Store.KeepRendering(ctx, p.Card.TicketID, out.Message.JSON())
	}
	return out, hash, err
}

func (s *Sender) edit(ctx context.Context, p db.Place, m slack.Message) error {
	err := s.c.Client.Update(ctx, slack.Ref{Channel: p.Channel, TS: p.TS}, m)
	s.answered(ctx, err)
	return err
}

// updated records how an update went.
func (s *Sender) updated(ctx context.Context, p db.Place, version int64, hash string, err error) {
	var e *slack.Error
	switch {
	case err == nil:
		crashpoint.Hit("card.updated")
		err = s.persist(ctx, func() error { return s.c.Store.PlaceShown(ctx, p, version, hash) })
	case errors.As(err, &e) && e.Class == slack.Permanent:
		s.log.WarnContext(ctx, "a card can never be updated again", slog.String("ticket_id", p.Card.TicketID),
			slog.String("channel", p.Channel), slog.String("ts", p.TS), slog.String("code", e.Code))
		err = s.persist(ctx, func() error { return s.c.Store.FreezePlace(ctx, p, e.Code) })
		s.Wake()
	case errors.As(err, &e) && e.Class == slack.RateLimited:
		err = s.c.Store.PlaceLater(ctx, p, e.RetryAfter)
	case errors.As(err, &e) && e.Class == slack.App:
		err = s.c.Store.PlaceLater(ctx, p, 0)
	default:
		err = s.c.Store.PlaceLater(ctx, p, backoff(p.Attempts))
	}
	s.problem(ctx, "a card cannot be recorded", p, err)
}

// sayBelow settles what is owed to a message that can never be updated again: when its ticket
// has come to its end, that is said below it, once. Its buttons give no authority by then.
func (s *Sender) sayBelow(ctx context.Context, p db.Place) {
	var err error
	if p.Final && !p.Copy {
		err = s.c.Store.QueuePosts(ctx, []db.Post{{
			Name: "notice/" + p.Card.Handle, TicketID: p.Card.TicketID, Kind: db.PostNotice,
			Handle: p.Card.Handle, Destination: p.Channel, Priority: priorityFinal,
		}})
	}
	if err == nil {
		err = s.c.Store.PlaceShown(ctx, p, p.Card.Desired, p.Card.Rendered)
	} else {
		_ = s.c.Store.PlaceLater(ctx, p, backoff(p.Attempts))
	}
	s.problem(ctx, "a frozen card cannot be seen to", p, err)
	s.Wake()
}

// problem logs what went wrong with a card, if anything did.
func (s *Sender) problem(ctx context.Context, what string, p db.Place, err error) {
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "trouble with a card", slog.String("what", what), slog.String("ticket_id", p.Card.TicketID),
			slog.String("channel", p.Channel), slog.String("ts", p.TS), slog.Any("error", err))
	}
}
