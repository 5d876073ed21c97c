package client

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Endpoint is one origin that a caller's callbacks may go to, and how it is doing.
type Endpoint struct {
	ID     string `json:"id"`
	Caller string `json:"caller"`
	Origin string `json:"origin"`
	// State says whether anything is sent to it: active, unconfigured, disabled, unverified, held or resting. More may come.
	State        string               `json:"state"`
	Verification EndpointVerification `json:"verification"`
	// Disabled is nil while it is enabled.
	Disabled *EndpointDisabled `json:"disabled"`
	Health   EndpointHealth    `json:"health"`
	// Held is, once it was enabled, how many deliveries had waited.
	Held      *int      `json:"held"`
	CreatedAt time.Time `json:"created_at"`
	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// EndpointVerification says whether an endpoint has agreed to be sent callbacks.
type EndpointVerification struct {
	State      string     `json:"state"`
	VerifiedAt *time.Time `json:"verified_at"`
	How        string     `json:"how"`
	Tries      int        `json:"tries"`
	NextAt     *time.Time `json:"next_at"`
	Error      string     `json:"error"`
	URL        string     `json:"url"`
}

// EndpointDisabled says since when, by whom and why nothing is sent to an endpoint.
type EndpointDisabled struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// EndpointHealth is what became of the latest attempts.
type EndpointHealth struct {
	Failures     int        `json:"failures"`
	FailingSince *time.Time `json:"failing_since"`
	SucceededAt  *time.Time `json:"succeeded_at"`
	FailedAt     *time.Time `json:"failed_at"`
	HeldUntil    *time.Time `json:"held_until"`
	RestingUntil *time.Time `json:"resting_until"`
}

// EndpointTest is what came of a test. Status is 0 when no answer came.
type EndpointTest struct {
	Delivered  bool   `json:"delivered"`
	Status     int    `json:"status"`
	Error      string `json:"error"`
	Class      string `json:"class"`
	DurationMS int64  `json:"duration_ms"`
	Response   string `json:"response"`
	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// OwedDelivery is one event that an endpoint is owed, or was.
type OwedDelivery struct {
	// ID is the webhook-id of what is sent.
	ID         string `json:"id"`
	TicketID   string `json:"ticket_id"`
	Sequence   int64  `json:"sequence"`
	Type       string `json:"type"`
	Caller     string `json:"caller"`
	EndpointID string `json:"endpoint_id"`
	URL        string `json:"url"`
	// State is pending, delivered or exhausted, which is the dead letter.
	State         string     `json:"state"`
	Attempts      int        `json:"attempts"`
	Trigger       string     `json:"trigger"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	Sending       bool       `json:"sending"`
	CreatedAt     time.Time  `json:"created_at"`
	// Log holds the attempts; lists leave it out.
	Log []LoggedAttempt `json:"attempt_log"`
	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// LoggedAttempt is one try to deliver. Status is 0 when no answer came.
type LoggedAttempt struct {
	Number     int        `json:"number"`
	At         time.Time  `json:"at"`
	Trigger    string     `json:"trigger"`
	Status     int        `json:"status"`
	Error      string     `json:"error"`
	Class      string     `json:"class"`
	DurationMS int64      `json:"duration_ms"`
	NextAt     *time.Time `json:"next_at"`
	Response   string     `json:"response"`
}

// Redelivered says how many deliveries will be sent once more, and which cannot be.
type Redelivered struct {
	Count int `json:"count"`
	// Complete is false when there may be more: ask again.
	Complete bool                `json:"complete"`
	Problems []RedeliveryProblem `json:"problems"`
	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// RedeliveryProblem says why a delivery is not sent again.
type RedeliveryProblem struct {
	ID     string `json:"id"`
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
}

// Endpoints goes through the callback endpoints there are to see, of one caller or, with an empty name, of all.
func (c *Client) Endpoints(ctx context.Context, caller string) iter.Seq2[Endpoint, error] {
	query := make(url.Values)
	if caller != "" {
		query.Set("caller", caller)
	}
	return pages(ctx, c, "/v1/callback-endpoints", query, parseEndpoint)
}

func parseEndpoint(raw []byte) (Endpoint, error) {
	e := Endpoint{Raw: raw}
	return e, json.Unmarshal(raw, &e)
}

func parseDelivery(raw []byte) (OwedDelivery, error) {
	d := OwedDelivery{Raw: raw}
	return d, json.Unmarshal(raw, &d)
}

func endpointPath(id string) string { return "/v1/callback-endpoints/" + url.PathEscape(id) }

// Endpoint reads a callback endpoint.
func (c *Client) Endpoint(ctx context.Context, id string) (Endpoint, error) {
	return one(ctx, c, request{method: http.MethodGet, path: endpointPath(id), safe: true}, nil, parseEndpoint)
}

// VerifyEndpoint has an endpoint asked now whether it wants callbacks: Endpoint.Verification says what came of it.
func (c *Client) VerifyEndpoint(ctx context.Context, id string) (Endpoint, error) {
	return one(ctx, c, request{method: http.MethodPost, path: endpointPath(id) + "/verify", wait: longestWait}, nil, parseEndpoint)
}

// EnableEndpoint has an endpoint sent callbacks again. What it is owed is due at once.
func (c *Client) EnableEndpoint(ctx context.Context, id string) (Endpoint, error) {
	return one(ctx, c, request{method: http.MethodPost, path: endpointPath(id) + "/enable", safe: true}, nil, parseEndpoint)
}

// DisableEndpoint has nothing more sent to an endpoint. What it is owed is kept.
func (c *Client) DisableEndpoint(ctx context.Context, id, reason string) (Endpoint, error) {
	body := map[string]any{"reason": reason}
	return one(ctx, c, request{method: http.MethodPost, path: endpointPath(id) + "/disable", safe: true}, body, parseEndpoint)
}

// TestEndpoint posts a test event to an address under an endpoint's origin; empty means the one it was verified at, else the
// one that the newest delivery goes to.
func (c *Client) TestEndpoint(ctx context.Context, id, address string) (EndpointTest, error) {
	body := map[string]any{}
	if address != "" {
		body["url"] = address
	}
	r := request{method: http.MethodPost, path: endpointPath(id) + "/test", wait: longestWait}
	return one(ctx, c, r, body, func(raw []byte) (EndpointTest, error) {
		t := EndpointTest{Raw: raw}
		return t, json.Unmarshal(raw, &t)
	})
}

// DeliveryFilter says which deliveries are wanted, or which are to be sent once more. Zero fields do not restrict, but
// for States of Redeliver, which means exhausted.
type DeliveryFilter struct {
	Caller, Ticket, Endpoint string
	// States: any, or one, where deliveries are listed.
	States       []string
	Since, Until time.Time
	// PageSize is how many are read at a time. Zero: the server's default.
	PageSize int
}

// Deliveries goes through deliveries, newest first.
func (c *Client) Deliveries(ctx context.Context, f DeliveryFilter) iter.Seq2[OwedDelivery, error] {
	query := make(url.Values)
	for name, value := range map[string]string{
		"caller": f.Caller, "ticket": f.Ticket, "endpoint": f.Endpoint, "since": stamp(f.Since), "until": stamp(f.Until),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, s := range f.States {
		query.Add("state", s)
	}
	if f.PageSize > 0 {
		query.Set("page_size", strconv.Itoa(f.PageSize))
	}
	return pages(ctx, c, "/v1/deliveries", query, parseDelivery)
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// Delivery reads a delivery and its attempts.
func (c *Client) Delivery(ctx context.Context, id string) (OwedDelivery, error) {
	r := request{method: http.MethodGet, path: "/v1/deliveries/" + url.PathEscape(id), safe: true}
	return one(ctx, c, r, nil, parseDelivery)
}

// Redeliver has one delivery sent once more, whatever became of it. Asking twice before it was sent is asking once.
func (c *Client) Redeliver(ctx context.Context, id string) (OwedDelivery, error) {
	r := request{method: http.MethodPost, path: "/v1/deliveries/" + url.PathEscape(id) + "/redeliver"}
	return one(ctx, c, r, nil, parseDelivery)
}

// RedeliverAll has all deliveries of an endpoint or a ticket that fit sent once more. With an endpoint Since is required.
func (c *Client) RedeliverAll(ctx context.Context, f DeliveryFilter) (Redelivered, error) {
	body := map[string]any{}
	for name, value := range map[string]string{"endpoint": f.Endpoint, "ticket": f.Ticket, "since": stamp(f.Since), "until": stamp(f.Until)} {
		if value != "" {
			body[name] = value
		}
	}
	if len(f.States) > 0 {
		body["states"] = f.States
	}
	r := request{method: http.MethodPost, path: "/v1/deliveries:bulk", wait: longestWait}
	return one(ctx, c, r, body, func(raw []byte) (Redelivered, error) {
		d := Redelivered{Raw: raw}
		return d, json.Unmarshal(raw, &d)
	})
}

// one makes a request about one thing and reads the answer.
func one[T any](ctx context.Context, c *Client, r request, body any, parse func([]byte) (T, error)) (T, error) {
	var none T
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return none, err
		}
		r.body, r.header = raw, http.Header{"Content-Type": {"application/json"}}
	}
	res, err := c.do(ctx, r)
	if err != nil {
		return none, err
	}
	out, err := parse(res.body)
	if err != nil {
		return none, r.explain(errors.New("the answer cannot be read"))
	}
	return out, nil
}
