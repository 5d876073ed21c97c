package interact

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

const (
	// workEvery is how often unfinished requests are looked for, workAfter how old they are
	// then: whoever took them has answered Slack or is dead.
	workEvery = time.Second
	workAfter = 3 * time.Second
	// finishWithin bounds finishing one, which is less than it is leased for.
	finishWithin = 12 * time.Second
	// maxAttempts is how often one is tried before it is given up: for some five minutes.
	maxAttempts = 20
)

// Work finishes requests that were taken and could not be carried out in time, until ctx
// ends. Any number of processes may do so.
func (d *Desk) Work(ctx context.Context) {
	tick := time.NewTicker(workEvery)
	defer tick.Stop()
	for {
		d.workOff(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// workOff finishes what is due, one after the other: what a person did first comes first.
func (d *Desk) workOff(ctx context.Context) {
	for ctx.Err() == nil {
		due, err := d.c.Store.DueInbound(ctx, workAfter, 1)
		if err != nil && ctx.Err() == nil {
			d.c.Logger.WarnContext(ctx, "cannot look for unfinished Slack requests", slog.Any("error", err))
		}
		if len(due) == 0 {
			return
		}
		in := due[0]
		if err := d.Finish(ctx, in); err != nil && ctx.Err() == nil {
			d.c.Logger.WarnContext(ctx, "cannot finish a Slack request", slog.String("kind", in.Kind),
				slog.Int("attempt", in.Attempts), slog.Any("error", err))
		}
	}
}

// clickLife is how old a click may be and count. Who was warned by Slack that theirs had not
// arrived may have thought better of it since.
const clickLife = 10 * time.Minute

const tooLate = "Your click could not be dealt with for too long, so it was not counted. If you still mean it, please press again."

// Finish carries out a request that was taken before, and tells the person what came of it.
// Of one that is done meanwhile it does nothing. An error means that it is to be tried again;
// the last time there is none.
func (d *Desk) Finish(ctx context.Context, in db.Inbound) error {
	ctx, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	r, err := read(Envelope{Kind: Kind(in.Kind), Transport: Transport(in.Transport), Key: in.Key, Body: in.Body})
	r.key = in.Key
	if err != nil {
		d.finish(ctx, r, "unreadable") // by this build; another one could read it
		return nil
	}
	switch r.Kind {
	case KindCommand:
		err = d.finishCommand(ctx, r)
	case KindEvent:
		var outcome string
		if outcome, err = d.event(ctx, r.event); err == nil {
			d.finish(ctx, r, outcome)
		}
	case KindInteraction:
		if d.c.Now().Sub(in.At) > clickLife {
			d.tell(ctx, &press{Interaction: r.interaction, key: r.key, late: true}, tooLate)
			d.finish(ctx, r, "too late")
			return nil
		}
		return d.finishInteraction(ctx, r, in.Attempts >= maxAttempts)
	}
	if err != nil && in.Attempts >= maxAttempts {
		d.c.Logger.ErrorContext(ctx, "gave up a Slack request", slog.String("kind", in.Kind), slog.Any("error", err))
		d.finish(ctx, r, "given up")
		return nil
	}
	return err
}

func (d *Desk) finishCommand(ctx context.Context, r request) error {
	message, outcome, err := d.command(ctx, r.command)
	if err != nil {
		return err
	}
	if err := d.c.Client.RespondMessage(ctx, r.command.ResponseURL, message, true); err != nil {
		d.c.Logger.WarnContext(ctx, "cannot answer in Slack", slog.Any("error", err))
	}
	d.finish(ctx, r, outcome)
	return nil
}

func (d *Desk) finishInteraction(ctx context.Context, r request, last bool) error {
	p := &press{Interaction: r.interaction, key: r.key, late: true}
	err := d.interact(ctx, p)
	switch {
	case errors.Is(err, db.ErrTaken):
		return nil
	case final(err):
		if text := d.late(ctx, p, err); text != "" {
			d.tell(ctx, p, text)
		}
		d.settle(ctx, r, p, err)
		return nil
	case !last:
		return err
	}
	d.c.Logger.ErrorContext(ctx, "gave up a Slack request", slog.String("kind", string(r.Kind)), slog.Any("error", err))
	d.tell(ctx, p, slack.Refusal("", ""))
	d.finish(ctx, r, "given up")
	return nil
}

// late says what came of an interaction to somebody who has been told to wait; "" where they
// see it.
func (d *Desk) late(ctx context.Context, p *press, err error) string {
	switch {
	case err == nil && (p.tried() == "view" || p.Type == slack.ViewClosed):
		return ""
	case err == nil:
		return "Done: it was counted."
	case correctable(err):
		var refusal *approvals.Error
		errors.As(err, &refusal)
		return slack.Refusal(refusal.Code, refusal.Message)
	}
	return d.sentence(ctx, p, err)
}
