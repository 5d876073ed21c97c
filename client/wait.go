package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Ticket reads a ticket as it is.
func (c *Client) Ticket(ctx context.Context, id string) (Ticket, error) {
	res, err := c.do(ctx, request{method: http.MethodGet, path: ticketPath(id), safe: true})
	if err != nil {
		return Ticket{}, err
	}
	return readTicket(res)
}

func ticketPath(id string) string { return "/v1/tickets/" + url.PathEscape(id) }

// Wait returns a ticket once it is done; whether it succeeded is for Ticket.Err to say. It outlasts restarts of the
// server and failures of the network, and ends otherwise with the context alone: then the error is a *NotDoneError with
// the ticket as it was last seen, and the ticket goes on. A refusal, such as ErrNotFound, ends it at once.
func (c *Client) Wait(ctx context.Context, id string) (Ticket, error) {
	t := Ticket{ID: id}
	for {
		next, err := c.Changed(ctx, t.ID, t.Version)
		if next.Version > 0 {
			t = next
		}
		var over *NotDoneError
		if errors.As(err, &over) {
			over.Ticket = t
		}
		if err != nil || t.Done {
			return t, err
		}
	}
}

// Changed returns a ticket as soon as it is at another version than the one given; 0 means none is known, so that the
// answer comes at once. It ends as Wait does.
func (c *Client) Changed(ctx context.Context, id string, version int64) (Ticket, error) {
	pause, unheld := firstPause, 0
	for {
		began := c.now()
		t, changed, hint, err := c.ask(ctx, id, version)
		switch {
		case err == nil && changed:
			return t, nil
		case ctx.Err() != nil:
			return Ticket{}, &NotDoneError{TicketError{Ticket{ID: id}}, ctx.Err()}
		case err != nil && !passing(err):
			return Ticket{}, err
		case err != nil:
			hint, unheld = max(jitter(pause), asked(err)), 0
			pause = min(2*pause, longestPause)
		case c.now().Sub(began) >= c.poll/2:
			hint, unheld, pause = 0, 0, firstPause // it was held for us, and will be again
		default:
			// Answered without being held, as a server does that shuts down: another may hold us. Not twice in a row.
			if unheld++; unheld == 1 {
				hint = min(hint, time.Second)
			}
		}
		sleep(ctx, hint)
	}
}

// ask asks once. hint is when asking again is worth while.
func (c *Client) ask(ctx context.Context, id string, version int64) (t Ticket, changed bool, hint time.Duration, err error) {
	r := request{method: http.MethodGet, path: ticketPath(id), header: make(http.Header)}
	if version > 0 {
		r.wait = c.poll
		r.header.Set("If-None-Match", `"`+strconv.FormatInt(version, 10)+`"`)
		r.header.Set("Prefer", "wait="+strconv.Itoa(int(c.poll/time.Second)))
	}
	res, err := c.once(ctx, r)
	if err != nil {
		return Ticket{}, false, 0, r.explain(err)
	}
	hint = max(retryAfter(res.header, c.now()), time.Second)
	if res.status == http.StatusNotModified {
		return Ticket{}, false, hint, nil
	}
	if res.status >= http.StatusBadRequest {
		return Ticket{}, false, 0, r.explain(problemOf(res.status, res.header, res.body, c.now()))
	}
	t, err = readTicket(res)
	return t, t.Version != version, hint, err
}

// passing says whether an error may be over the next time.
func passing(err error) bool {
	var p *ProblemError
	if !errors.As(err, &p) {
		return true
	}
	return p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests
}
