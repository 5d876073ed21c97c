package notify

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"countersign/db"
	"countersign/slack"
)

// priorityHome is that of home tabs: everything else goes first.
const priorityHome = 9

// homesAtOnce is how many home tabs are taken up together; they are leased from then on.
const homesAtOnce = 4

// beginHomes publishes home tabs when nothing else needs the calls.
func (s *Sender) beginHomes(ctx context.Context) time.Duration {
	free := min(cap(s.slots)-len(s.slots), homesAtOnce)
	if free <= 0 {
		return s.c.Poll
	}
	now := s.c.Now()
	if now.Sub(s.homesAt) < s.c.Poll {
		return s.c.Poll
	}
	taken := 0
	for ; taken < free; taken++ {
		if wait := s.limiter.take(now, methodHome, ""); wait > 0 {
			break
		}
	}
	if taken == 0 {
		return s.c.Poll
	}
	homes, err := s.c.Store.DueHomes(ctx, taken)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "home tabs cannot be read", slog.Any("error", err))
	}
	for range taken {
		s.limiter.giveBack(methodHome, "")
	}
	if len(homes) < taken {
		s.homesAt = now // there are no more
	}
	for _, h := range homes {
		s.start(ctx, task{
			key: "home/" + h.SlackUser, method: methodHome, priority: priorityHome,
			do: func(ctx context.Context) bool { return s.publishHome(ctx, h) },
		})
	}
	return s.c.Poll
}

// publishHome publishes a home tab. What does not work now is tried again when its lease ends.
func (s *Sender) publishHome(ctx context.Context, h db.Home) (called bool) {
	view, err := s.c.Content.Home(ctx, h)
	if err == nil {
		called = true
		err = s.c.Client.PublishHome(ctx, h.SlackUser, view)
		s.answered(ctx, err)
	}
	var e *slack.Error
	switch {
	case err == nil, errors.Is(err, ErrOver):
		err = s.c.Store.PublishedHome(ctx, h.SlackUser, h.DirtyAt)
	case errors.As(err, &e) && e.Class == slack.Permanent:
		s.log.WarnContext(ctx, "a home tab cannot be published", slog.String("slack_user", h.SlackUser), slog.String("code", e.Code))
		err = s.c.Store.ForgetHome(ctx, h.SlackUser)
	}
	if err != nil {
		s.log.WarnContext(ctx, "a home tab is tried again", slog.String("slack_user", h.SlackUser), slog.Any("error", err))
	}
	return called
}
