package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Cancel withdraws a call. Before anything was sent the ticket is cancelled; while the call is under way the wish is
// noted (Ticket.CancelRequestedAt) and the ticket ends as what really happened. A ticket that has ended otherwise is
// ErrAlreadyFinal. The reason may be empty.
func (c *Client) Cancel(ctx context.Context, id, reason string) (Ticket, error) {
	body := map[string]any{}
	if reason != "" {
		body["reason"] = reason
	}
	return c.post(ctx, ticketPath(id)+"/cancel", body, true)
}

// Answer answers the open question of a ticket; without one it is ErrConflict. It is not tried again after an error of
// the network, since it may have arrived: then look whether Ticket.Question has an answer.
func (c *Client) Answer(ctx context.Context, id, text string) (Ticket, error) {
	return c.post(ctx, ticketPath(id)+"/answers", map[string]any{"answer": text}, false)
}

// Verdict is what a person says to a call.
type Verdict string

// The verdicts.
const (
	Approve    Verdict = "approve"
	Deny       Verdict = "deny"
	BreakGlass Verdict = "break_glass"
)

// Decide approves or denies a call as the person whose key this Client has. Digest must be that of the ticket they
// looked at; stage is the one they mean, counted from 1, 0 for the current one. The comment may be empty where the rule
// does not ask for one. Like Answer it is not tried again blindly; a decision that did arrive is ErrAlreadyDecided the
// second time.
func (c *Client) Decide(ctx context.Context, id string, v Verdict, digest string, stage int, comment string) (Ticket, error) {
	body := map[string]any{"verdict": v, "digest": digest}
	if stage > 0 {
		body["stage"] = stage
	}
	if comment != "" {
		body["comment"] = comment
	}
	return c.post(ctx, ticketPath(id)+"/decisions", body, false)
}

// Ask asks the requester for details, as a person who may decide.
func (c *Client) Ask(ctx context.Context, id, question string) (Ticket, error) {
	return c.post(ctx, ticketPath(id)+"/questions", map[string]any{"question": question}, false)
}

// Resolve says, as an operator, what became of a call in doubt: Succeeded or Failed.
func (c *Client) Resolve(ctx context.Context, id string, outcome State, reason string) (Ticket, error) {
	return c.post(ctx, ticketPath(id)+"/resolve", map[string]any{"outcome": outcome, "reason": reason}, false)
}

func (c *Client) post(ctx context.Context, path string, body any, safe bool) (Ticket, error) {
	res, err := c.postJSON(ctx, path, body, safe)
	if err != nil {
		return Ticket{}, err
	}
	return readTicket(res)
}

func (c *Client) postJSON(ctx context.Context, path string, body any, safe bool) (response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return response{}, fmt.Errorf("write the request as JSON: %w", err)
	}
	return c.do(ctx, request{
		method: http.MethodPost, path: path, body: raw, safe: safe, header: http.Header{"Content-Type": {"application/json"}},
	})
}
