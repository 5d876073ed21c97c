package client

import (
	"encoding/json"
	"time"
)

// State is where a ticket is in its life. More may come: read Ticket.Done where only the end matters.
type State string

// The states of a ticket. The last six are final.
const (
	Pending        State = "pending"
	NeedsInfo      State = "needs_info"
	Approved       State = "approved"
	Executing      State = "executing"
	Succeeded      State = "succeeded"
	Failed         State = "failed"
	OutcomeUnknown State = "outcome_unknown"
	Denied         State = "denied"
	Expired        State = "expired"
	Cancelled      State = "cancelled"
)

// Ticket is one privileged call and its life. Times that have not come are nil.
type Ticket struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Done says that the state is final.
	Done bool `json:"done"`
	// Version grows with every event.
	Version       int64             `json:"version"`
	Caller        string            `json:"caller"`
	OnBehalfOf    string            `json:"on_behalf_of"`
	Upstream      string            `json:"upstream"`
	Method        string            `json:"method"`
	Path          string            `json:"path"`
	RawQuery      string            `json:"raw_query"`
	Justification string            `json:"justification"`
	Metadata      map[string]string `json:"metadata"`
	Callback      Callback          `json:"callback"`
	// Rule is the one that decided what is needed; empty when none matched.
	Rule string `json:"rule"`
	// Digest is SHA-256 in hex over everything an approval is bound to; Fingerprint is its short form.
	Digest      string `json:"digest"`
	Fingerprint string `json:"fingerprint"`
	// Error says why the ticket ended without success.
	Error      *TicketProblem `json:"error"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	ApprovedAt *time.Time     `json:"approved_at"`
	ExecuteBy  *time.Time     `json:"execute_by"`
	// ExecutionStartedAt, when nil, means that nothing was sent.
	ExecutionStartedAt *time.Time `json:"execution_started_at"`
	FinishedAt         *time.Time `json:"finished_at"`
	CancelRequestedAt  *time.Time `json:"cancel_requested_at"`
	NotBefore          *time.Time `json:"not_before"`
	Supersedes         string     `json:"supersedes"`
	SupersededBy       string     `json:"superseded_by"`
	// Stalled is set while nobody who may still decide can complete the ticket.
	Stalled *Stall            `json:"stalled"`
	Links   map[string]string `json:"links"`

	// What lists leave out: where the approvals stand, who could decide now, the latest question.
	Stage        *Stage        `json:"stage"`
	WaitingFor   []string      `json:"waiting_for"`
	Question     *Question     `json:"question"`
	Decisions    []Decision    `json:"decisions"`
	BreakGlass   *GlassBroken  `json:"break_glass"`
	Notification *Notification `json:"notification"`
	// Call is the rest of the call, as people see it who decide.
	Call *ShownCall `json:"call"`

	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// TicketProblem is why a ticket ended without success.
type TicketProblem struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// Callback is where events are posted, and how far that is. URL is empty when nothing was asked for.
type Callback struct {
	URL    string   `json:"url"`
	Events []string `json:"events"`
	State  string   `json:"state"`
}

// Stall says why nobody can complete a ticket.
type Stall struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Stage is the current stage, counted from 1, and its approvals.
type Stage struct {
	Name   string `json:"name"`
	Index  int    `json:"index"`
	Of     int    `json:"of"`
	Needed int    `json:"needed"`
	Have   int    `json:"have"`
	Round  int    `json:"round"`
}

// Question is what an approver wants to know. Answer is empty while the question is open.
type Question struct {
	Person  string    `json:"person"`
	Text    string    `json:"text"`
	AskedAt time.Time `json:"asked_at"`
	Answer  string    `json:"answer"`
}

// Decision is one verdict of one person on one stage, counted from 1.
type Decision struct {
	Person  string    `json:"person"`
	For     string    `json:"for"`
	Verdict string    `json:"verdict"`
	Stage   int       `json:"stage"`
	Groups  []string  `json:"groups"`
	Comment string    `json:"comment"`
	Via     string    `json:"via"`
	At      time.Time `json:"at"`
}

// GlassBroken says by whom the stages were bypassed.
type GlassBroken struct {
	Person  string    `json:"person"`
	Comment string    `json:"comment"`
	At      time.Time `json:"at"`
}

// Notification says whether those who may decide are being told.
type Notification struct {
	Status string `json:"status"`
	Detail string `json:"detail"`
}

// ShownCall is what a person decides on. While Complete is false not all of it can be shown.
type ShownCall struct {
	Query      string   `json:"query"`
	Headers    []Header `json:"headers"`
	Body       string   `json:"body"`
	BodyBase64 string   `json:"body_base64"`
	BodyBytes  int      `json:"body_bytes"`
	Complete   bool     `json:"complete"`
}

// Header is one header field.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Target is the call in one line: method, upstream and path.
func (t Ticket) Target() string {
	out := t.Method + " " + t.Upstream + " " + t.Path
	if t.RawQuery != "" {
		out += "?" + t.RawQuery
	}
	return out
}

func parseTicket(raw []byte) (Ticket, error) {
	var t Ticket
	err := json.Unmarshal(raw, &t)
	t.Raw = json.RawMessage(raw)
	return t, err
}
