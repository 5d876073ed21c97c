package approvals

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// CallbackInlineLimit is the size, in bytes, up to which an upstream's body travels
// inside the callback. Larger ones are fetched from the result endpoint.
const CallbackInlineLimit = 16 << 10

// CallbackLimit is the size, in bytes, of the largest callback that is sent. JSON spells some
// bytes in six, so that an answer and its headers may take many times their size: one that
// would not fit is left out, or its upstream could keep the caller from being told at all.
const CallbackLimit = 256 << 10

// How much of a result callbacks carry: all that fits into a callback, or nothing of it.
const (
	PayloadFull = "full"
	PayloadThin = "thin"
)

// Why a callback does not carry a result that there is.
const (
	// OmittedTooLarge: it does not fit.
	OmittedTooLarge = "too_large"
	// OmittedSensitive: the rule says that reads of it are to be seen.
	OmittedSensitive = "sensitive"
	// OmittedThin: the caller wants none of it.
	OmittedThin = "thin"
)

// callbackBody is the payload of a callback, as the API contract has it.
type callbackBody struct {
	Type      EventType    `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      callbackData `json:"data"`
}

type callbackData struct {
	TicketID string `json:"ticket_id"`
	// Caller is whom it is sent to. A key that signs for all callers would let one pass an event
	// of its own on to another otherwise.
	Caller        string            `json:"caller"`
	State         State             `json:"state"`
	Done          bool              `json:"done"`
	Sequence      int64             `json:"sequence"`
	Version       int64             `json:"version"`
	Metadata      map[string]string `json:"metadata"`
	Links         map[string]string `json:"links"`
	Error         *Problem          `json:"error"`
	Question      *Question         `json:"question,omitempty"`
	Reason        string            `json:"reason,omitempty"`
	SupersededBy  string            `json:"superseded_by,omitempty"`
	Result        *ResultBody       `json:"result"`
	ResultOmitted *string           `json:"result_omitted"`
}

// ResultBody is how an upstream's answer is shown to the caller, here and at the
// result endpoint. Body holds JSON as JSON and text as a string; other bytes are in
// BodyBase64.
type ResultBody struct {
	Status     int             `json:"status"`
	Headers    []Header        `json:"headers"`
	Body       json.RawMessage `json:"body,omitempty"`
	BodyBase64 string          `json:"body_base64,omitempty"`
	Truncated  bool            `json:"truncated"`
	Size       int64           `json:"size"`
	Digest     string          `json:"digest"`
	DurationMS int64           `json:"duration_ms"`
	ExecutedAt time.Time       `json:"executed_at"`
}

// Render renders a result for the caller.
func (r Result) Render() ResultBody {
	out := ResultBody{
		Status: r.Status, Headers: r.Headers, Truncated: r.Truncated, Size: r.Size,
		Digest: r.Digest, DurationMS: r.DurationMS, ExecutedAt: r.ExecutedAt.UTC(),
	}
	if out.Headers == nil {
		out.Headers = []Header{}
	}
	switch {
	case len(r.Body) == 0:
	case utf8.Valid(r.Body) && json.Valid(r.Body): // json.Valid alone lets broken UTF-8 pass
		out.Body = r.Body
	case utf8.Valid(r.Body):
		out.Body, _ = json.Marshal(string(r.Body)) // a valid string always marshals
	default:
		out.BodyBase64 = base64.StdEncoding.EncodeToString(r.Body)
	}
	return out
}

// CallbackPayload renders the body of the callback for an event, once: the same bytes
// are sent, and signed, on every attempt. t is the ticket after the event; links are
// relative to base, the public URL of the service.
func CallbackPayload(t Ticket, e Event, r *Result, base string) ([]byte, error) {
	data := callbackData{
		TicketID: t.ID, Caller: t.Caller, State: e.State, Done: e.State.Final(), Sequence: e.Seq, Version: e.Seq,
		Metadata: t.Metadata, Links: Links(t.ID, base), Error: e.Data.Problem, Question: e.Data.Question,
		Reason: reasonOf(e), SupersededBy: e.Data.SupersededBy,
	}
	if data.Metadata == nil {
		data.Metadata = map[string]string{}
	}
	if r != nil && e.Data.Result != nil {
		if why := omitted(t, *r); why != "" {
			data.ResultOmitted = &why
		} else {
			body := r.Render()
			data.Result = &body
		}
	}
	body := callbackBody{Type: e.Type, Timestamp: e.At.UTC(), Data: data}
	out, err := json.Marshal(body)
	if err != nil || len(out) <= CallbackLimit || data.Result == nil {
		return out, err
	}
	reason := OmittedTooLarge
	body.Data.Result, body.Data.ResultOmitted = nil, &reason
	return json.Marshal(body)
}

// omitted is why a result is left out, "" if it is not.
func omitted(t Ticket, r Result) string {
	switch {
	case t.Plan.Sensitive:
		return OmittedSensitive
	case t.Callback != nil && t.Callback.Payload == PayloadThin:
		return OmittedThin
	case len(r.Body) > CallbackInlineLimit && (t.Callback == nil || t.Callback.Payload != PayloadFull):
		return OmittedTooLarge
	}
	return ""
}

// reasonOf is why a ticket that goes on does so in another way.
func reasonOf(e Event) string {
	switch e.Type { //nolint:exhaustive // the reasons of the others are told by error, or nobody's business
	case EventEscalated, EventStalled, EventReopened, EventTightened:
		return e.Data.Reason
	default:
		return ""
	}
}

// Links returns the addresses of a ticket below base, with or without its last slash.
func Links(id, base string) map[string]string {
	self := strings.TrimSuffix(base, "/") + "/v1/tickets/" + id
	return map[string]string{
		"self": self, "result": self + "/result", "events": self + "/events", "cancel": self + "/cancel",
	}
}
