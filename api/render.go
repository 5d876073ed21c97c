package api

import (
	"encoding/base32"
	"maps"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/slack"
)

// TicketDetails is a ticket as its caller sees it.
type TicketDetails struct {
	TicketSummary
	Stage      *StageProgress `json:"stage"`
	WaitingFor []string       `json:"waiting_for"`
	Question   *Question      `json:"question"`
	Decisions  []Decision     `json:"decisions"`
	BreakGlass *GlassBroken   `json:"break_glass"`
	// Notification is looked up for each answer.
	Notification Notification `json:"notification"`
	Call         *ShownCall   `json:"call,omitempty"`
}

// shownCall is what a person decides on.
func shownCall(t approvals.Ticket) *ShownCall {
	shown := slack.Show(t)
	out := &ShownCall{
		Query: shown.Query, Headers: make([]Header, 0, len(shown.Headers)),
		Body: shown.Body, BodyBase64: shown.BodyBase64, BodyBytes: len(t.Call.Body), Complete: shown.Complete,
	}
	for _, h := range shown.Headers {
		out.Headers = append(out.Headers, Header(h))
	}
	return out
}

func (s *Server) details(t approvals.Ticket, dir approvals.Directory) TicketDetails {
	out := TicketDetails{
		TicketSummary: s.summary(t), Stage: progress(t, dir),
		WaitingFor: orEmpty(t.WaitingFor(dir)), Question: question(t.Question),
		Decisions: make([]Decision, 0, len(t.Decisions)),
	}
	for _, d := range t.Decisions {
		out.Decisions = append(out.Decisions, decision(d))
		if d.Verdict == approvals.GlassBroken && d.At.Equal(t.ApprovedAt) { // as long as that approval stands
			out.BreakGlass = &GlassBroken{Person: d.Person, Comment: d.Comment, At: Timestamp{d.At}}
		}
	}
	return out
}

func (s *Server) summary(t approvals.Ticket) TicketSummary {
	links := approvals.Links(t.ID, s.publicURL)
	return TicketSummary{
		ID: t.ID, State: t.State, Done: t.Done(), Version: t.Version,
		Caller: t.Caller, OnBehalfOf: t.OnBehalfOf,
		Upstream: t.Call.Upstream, Method: t.Call.Method, Path: t.Call.Path, RawQuery: t.Call.Query,
		Justification: t.Justification, Metadata: orEmptyMap(t.Metadata), Callback: callback(t),
		Rule: t.Plan.Rule, Digest: t.Digest, Fingerprint: approvals.Fingerprint(s.fingerprint, t.Digest),
		Error:     ticketError(t.Problem),
		CreatedAt: Timestamp{t.CreatedAt}, UpdatedAt: Timestamp{t.UpdatedAt}, ExpiresAt: Timestamp{t.ExpiresAt},
		ApprovedAt: Timestamp{t.ApprovedAt}, ExecuteBy: Timestamp{t.ExecuteBy},
		ExecutionStartedAt: Timestamp{t.ExecutionStartedAt}, FinishedAt: Timestamp{t.FinishedAt},
		CancelRequestedAt: Timestamp{t.CancelRequestedAt},
		NotBefore:         Timestamp{t.NotBefore}, Stalled: stalled(t.Stalled),
		Supersedes: orNull(t.Supersedes), SupersededBy: orNull(t.SupersededBy),
		Links: Links{Self: links["self"], Result: links["result"], Events: links["events"], Cancel: links["cancel"]},
	}
}

func stalled(s *approvals.Stall) *Stall {
	if s == nil {
		return nil
	}
	return &Stall{Reason: s.Reason, Since: Timestamp{s.Since}}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func callback(t approvals.Ticket) Callback {
	out := Callback{Events: []CallbackEventType{}, State: t.CallbackState}
	if t.Callback != nil {
		out.URL = &t.Callback.URL
		out.Events = append(out.Events, t.Callback.Events...)
	}
	return out
}

// progress counts stages from 1, as people do.
func progress(t approvals.Ticket, dir approvals.Directory) *StageProgress {
	if t.Stage >= len(t.Plan.Stages) {
		return nil
	}
	tally := t.Tally(t.Stage, dir)
	return &StageProgress{
		Name: t.Plan.Stages[t.Stage].Name, Index: t.Stage + 1, Of: len(t.Plan.Stages),
		Needed: tally.Needed, Have: tally.Have, Round: t.Plan.Stages[t.Stage].Round,
	}
}

func decision(d approvals.Decision) Decision {
	return Decision{
		Person: d.Person, For: d.For, Verdict: d.Verdict, Stage: d.Stage + 1, Groups: d.Groups,
		Comment: d.Comment, Via: d.Via, At: Timestamp{d.At},
	}
}

func question(q *approvals.Question) *Question {
	if q == nil {
		return nil
	}
	return &Question{Person: q.Person, Text: q.Text, AskedAt: Timestamp{q.AskedAt}, Answer: q.Answer}
}

// errorTitles are the titles of the reasons why a ticket ends without success. Those that
// are not here have a general one.
var errorTitles = map[string]string{
	"denied":             "The call was denied",
	"denied_by_policy":   "The policy refuses the call",
	"expired":            "Nobody decided in time",
	"approval_stale":     "The approval was not used in time",
	"cancelled":          "The call was withdrawn",
	"superseded":         "Another ticket took this one's place",
	"approval_withdrawn": "An approval no longer stands",
	"policy_tightened":   "Today's policy demands more than was approved",
	"binding_violation":  "The call changed after it was approved",
	"resolved_as_failed": "An operator found that the call failed",
}

func ticketError(p *approvals.Problem) *TicketError {
	if p == nil {
		return nil
	}
	return &TicketError{Type: problemKind{}.uri(p.Code), Title: titleOf(p.Code), Code: p.Code, Detail: p.Detail}
}

func titleOf(code string) string {
	if title, known := errorTitles[code]; known {
		return title
	}
	return "The call did not succeed"
}

// retryAfter is when polling again is worth while, in seconds: soon while something is
// going on, ever later while people think. Zero for a final ticket.
func retryAfter(state approvals.State, created, now time.Time) int {
	switch state {
	case approvals.Approved, approvals.Executing:
		return 2
	case approvals.Pending, approvals.NeedsInfo:
		return min(30, 5+max(0, int(now.Sub(created)/time.Minute)))
	case approvals.Succeeded, approvals.Failed, approvals.OutcomeUnknown,
		approvals.Denied, approvals.Expired, approvals.Cancelled:
	}
	return 0
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// madeAt reads the time out of a valid ticket id (UUIDv7, RFC 9562), so that "nothing has
// changed" can be said without reading the ticket.
func madeAt(id string) time.Time {
	raw, err := idEncoding.DecodeString(strings.TrimPrefix(id, "tkt_"))
	if err != nil || len(raw) < 6 {
		return time.Time{}
	}
	var ms int64
	for _, b := range raw[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
