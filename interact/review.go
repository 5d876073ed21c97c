package interact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// look handles the button that shows the whole request, to whoever has to do with it. Who may
// approve it now may do so from there.
func (d *Desk) look(ctx context.Context, p *press) error {
	offer := slack.ReviewOnly
	t, err := d.put(ctx, p, func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		if tr, err := t.View(p.actor, p.viewing(p.card.Digest, "", 1), p.dir, p.now); err != nil {
			return tr, err
		}
		offer = d.offer(p, t)
		return approvals.Transition{}, nil
	})
	if err != nil {
		return err
	}
	return d.openReview(ctx, p, t, offer)
}

// offer is what somebody may do from the full view.
func (d *Desk) offer(p *press, t approvals.Ticket) slack.ReviewOffer {
	_, err := t.Decide(p.actor, p.decision(approvals.Approve, placeholder), p.dir, p.now)
	if err != nil {
		return slack.ReviewOnly
	}
	return slack.ReviewApprove
}

func (p *press) viewing(digest, rendered string, pages int) approvals.Viewing {
	return approvals.Viewing{Person: p.actor.Name, Digest: digest, Rendered: rendered, Channel: p.conversation(), Pages: pages}
}

// openReview shows the first page of a request, and keeps what is on all of them.
func (d *Desk) openReview(ctx context.Context, p *press, t approvals.Ticket, offer slack.ReviewOffer) error {
	if p.late {
		return errUnopened
	}
	whole := slack.NewReview(d.view(p, t))
	rendered, err := d.c.Store.KeepRendering(ctx, t.ID, whole.JSON())
	if err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	review, err := d.c.Store.OpenReview(ctx, db.Review{
		Card: p.card.Handle, TicketID: t.ID, Stage: p.card.Stage, Digest: t.Digest, Person: p.actor.Name,
		SlackTeam: p.User.TeamID, SlackUser: p.User.ID, Pages: whole.Pages(), Rendered: rendered,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	if err := d.popUp(ctx, p, whole.Modal(review.Handle, 1, offer)); err != nil {
		return err
	}
	d.viewed(ctx, p, review, whole.Obstacle())
	return nil
}

// viewed records that somebody has been shown the last page of a request, and so all of it.
// It comes after the page: what is on record was on a screen. Should it fail, they are still
// held to have read it by the review itself, and only the glass stays whole.
func (d *Desk) viewed(ctx context.Context, p *press, r db.Review, obstacle string) {
	if r.Seen < r.Pages || obstacle != "" { // what nobody can judge from here was not seen here
		return
	}
	_, err := d.c.Store.Advance(ctx, db.Ref{ID: r.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.View(p.actor, p.viewing(r.Digest, r.Rendered, r.Pages), p.dir, now)
	})
	if err != nil {
		d.c.Logger.WarnContext(ctx, "cannot record that a request was viewed", slog.String("ticket_id", r.TicketID), slog.Any("error", err))
	}
}

// turn turns the page of a full view. It is turned in Slack first, and only if it is still the
// page that was in front of the person: what counts as seen was there.
func (d *Desk) turn(ctx context.Context, p *press) error {
	p.outcome, p.now = "turned", p.ticket.UpdatedAt
	r := *p.review
	to := r.Page + 1
	if p.ActionID == slack.ActionPrev {
		to = r.Page - 1
	}
	if to < 1 || to > r.Pages {
		return nil
	}
	whole, changed := d.reread(p, p.ticket)
	if changed {
		return d.replace(ctx, p, slack.Notice("This request, or what is shown of it, has changed since you opened it. Please close this and open it again."))
	}
	if err := d.replace(ctx, p, whole.Modal(r.Handle, to, d.offer(p, p.ticket))); err != nil {
		return err
	}
	if p.outcome == "overtaken" {
		return nil
	}
	r, err := d.c.Store.TurnPage(ctx, r.Handle, r.Page, to)
	if err != nil {
		return err
	}
	d.viewed(ctx, p, r, whole.Obstacle())
	return nil
}

// reread lays the request out as it is now, and reports whether that is something else than
// what its reader has open.
func (d *Desk) reread(p *press, t approvals.Ticket) (whole slack.Review, changed bool) {
	whole = slack.NewReview(d.view(p, t))
	return whole, t.Digest != p.review.Digest || whole.Pages() != p.review.Pages || whole.Hash() != p.review.Rendered
}

// replace puts another page in the place of the one on which a button was pressed. Where
// another one is there already, the press was one too many, and nothing happens.
func (d *Desk) replace(ctx context.Context, p *press, view slack.ModalView) error {
	err := d.c.Client.UpdateView(ctx, p.View.ID, p.View.Hash, view)
	var failure *slack.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure) && (failure.Code == "hash_conflict" || failure.Code == "not_found"):
		p.outcome = "overtaken"
		return nil
	}
	return fmt.Errorf("%w: %w", errUnopened, err)
}

// unread says why an approval from a full view does not count: not all of it was seen, or it
// is not what is shown now. What cannot be approved from here has no such approval.
func (d *Desk) unread(p *press, t approvals.Ticket) *approvals.Error {
	whole, changed := d.reread(p, t)
	switch {
	case changed:
		p.say = "This request, or what is shown of it, has changed since you opened it, so your approval was not counted. Please open it again."
		return &approvals.Error{Code: approvals.CodeDigestMismatch, Message: "what they were shown is not what is shown now"}
	case whole.Obstacle() != "":
		p.say = "Your approval was not counted: this request cannot be approved from here, because " + whole.Obstacle() + "."
		return &approvals.Error{Code: approvals.CodeDigestMismatch, Message: whole.Obstacle()}
	case p.review.Seen < p.review.Pages:
		p.say = "You have not seen the last page of this request yet, so your approval was not counted. Please open it again and read it to its end."
		return &approvals.Error{Code: approvals.CodeDigestMismatch, Message: "they have not seen all pages of the request"}
	}
	return nil
}
