package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Call is an HTTP call to be approved and made.
type Call struct {
	// Upstream is the configured name of the API; Method is in capitals; Path is escaped and starts with a slash.
	Upstream, Method, Path string
	// Query is sent sorted by name.
	Query url.Values
	// Header holds the fields of the call, of which the upstream's configuration lists those that callers may set.
	Header map[string]string
	// Body is what is to be sent. JSON, unless Header says another Content-Type, is sent as application/json, its bytes
	// as they stand but for white space around them; everything else travels as it is and should have a Content-Type.
	Body []byte
	// Justification is for the approvers to read: why.
	Justification string
	// OnBehalfOf names the person the caller acts for, who then cannot approve.
	OnBehalfOf string
	// CallbackURL is where events are posted. Empty: nowhere. CallbackEvents are those besides the final ones.
	CallbackURL    string
	CallbackEvents []string
	// NotBefore is when the call may be made at the earliest. Zero: as soon as it is approved.
	NotBefore time.Time
	// Supersedes is the id of an earlier ticket that this one takes the place of.
	Supersedes string
	// Metadata comes back with the ticket.
	Metadata map[string]string
	// IdempotencyKey makes repeating the submit safe, across processes too: 1 to 255 printable ASCII characters, new for
	// every call that is meant to be made. Empty: Submit makes one, which makes its own retries safe.
	IdempotencyKey string
}

type submission struct {
	Upstream      string              `json:"upstream"`
	Method        string              `json:"method"`
	Path          string              `json:"path"`
	Query         map[string][]string `json:"query,omitempty"`
	Headers       map[string]string   `json:"headers,omitempty"`
	BodyBase64    string              `json:"body_base64,omitempty"`
	Justification string              `json:"justification,omitempty"`
	OnBehalfOf    string              `json:"on_behalf_of,omitempty"`
	Callback      *submittedCallback  `json:"callback,omitempty"`
	NotBefore     string              `json:"not_before,omitempty"`
	Supersedes    string              `json:"supersedes,omitempty"`
	Metadata      map[string]string   `json:"metadata,omitempty"`
}

type submittedCallback struct {
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"`
}

// Submit hands in a call and returns its ticket, which may have ended already where a rule says so: look at Ticket.Err.
// It tries again, always under the same Idempotency-Key, after network errors, while the first try is still under way,
// and when the server is busy or starting, as often as Config.Attempts says. A *ProblemError means that the server
// refused; any other error that it is not known whether there is a ticket: submit again under the same key.
func (c *Client) Submit(ctx context.Context, call Call) (Ticket, error) {
	body, err := call.document()
	if err != nil {
		return Ticket{}, err
	}
	key := call.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	res, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/tickets", body: body, safe: true, header: http.Header{
		"Content-Type": {"application/json"}, "Idempotency-Key": {quote(key)},
	}})
	if err != nil {
		return Ticket{}, err
	}
	return readTicket(res)
}

// quote writes a Structured Fields string (RFC 9651 section 3.3.3).
func quote(key string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

func readTicket(res response) (Ticket, error) {
	t, err := parseTicket(res.body)
	if err != nil || t.ID == "" {
		return Ticket{}, fmt.Errorf("the answer (%d) is no ticket: is the address right?", res.status)
	}
	return t, nil
}

// document renders the call. The bytes of a JSON body are put in by hand: json.Marshal would write them anew.
func (call Call) document() ([]byte, error) {
	s := submission{
		Upstream: call.Upstream, Method: call.Method, Path: call.Path, Query: call.Query, Headers: call.Header,
		Justification: call.Justification, OnBehalfOf: call.OnBehalfOf, Supersedes: call.Supersedes, Metadata: call.Metadata,
	}
	if call.CallbackURL != "" {
		s.Callback = &submittedCallback{call.CallbackURL, call.CallbackEvents}
	}
	if !call.NotBefore.IsZero() {
		s.NotBefore = call.NotBefore.UTC().Format(time.RFC3339Nano)
	}
	asJSON := call.isJSON()
	if !asJSON {
		s.BodyBase64 = base64.StdEncoding.EncodeToString(call.Body)
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the call as JSON: %w", err)
	}
	if asJSON {
		out = append(out[:len(out)-1], `,"body":`...)
		out = append(append(out, bytes.TrimSpace(call.Body)...), '}')
	}
	return out, nil
}

// isJSON says whether the body can stand in the document. A lone null cannot: there it means that there is no body.
func (call Call) isJSON() bool {
	for name, value := range call.Header {
		media, _, _ := strings.Cut(value, ";")
		if strings.EqualFold(name, "Content-Type") && !strings.EqualFold(strings.TrimSpace(media), "application/json") {
			return false
		}
	}
	return utf8.Valid(call.Body) && json.Valid(call.Body) && string(bytes.TrimSpace(call.Body)) != "null"
}
