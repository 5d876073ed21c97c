package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
)

// What is asked of an endpoint because somebody wants it is kept beside what comes of it.
const (
	verificationRequested = "endpoint.verification_requested"
	endpointTested        = "endpoint.tested"
)

// maxReason bounds why an endpoint is disabled, in bytes.
const maxReason = 500

var (
	endpointID = regexp.MustCompile(`^end_[0-9a-hjkmnp-tv-z]{26}$`)
	messageID  = regexp.MustCompile(`^msg_[0-9a-hjkmnp-tv-z]{26}$`)
)

func noEndpoint() *failure { return fail(codeNotFound, "there is no such callback endpoint") }

// tends reports whether what belongs to a caller is there for whoever asks: for itself, its
// owners, operators and auditors.
func (x *exchange) tends(caller string) bool {
	if x.person.Name == "" {
		return x.caller.Name != "" && x.caller.Name == caller
	}
	return x.owns(caller) || x.oversees()
}

// mayTend refuses people who may see what belongs to a caller, and not touch it.
func (x *exchange) mayTend(caller string) error {
	if x.person.Name == "" || x.owns(caller) || x.operator() {
		return nil
	}
	return fail(codeNotRequester, "only the caller's own people, and operators, may do that")
}

// endpoint finds an endpoint for whoever asks. What they may not see does not exist for them.
func (o operations) endpoint(ctx context.Context, x *exchange, id string) (db.Endpoint, error) {
	if !endpointID.MatchString(id) {
		return db.Endpoint{}, noEndpoint()
	}
	e, err := o.store.EndpointByID(ctx, id)
	switch {
	case approvals.ErrorCode(err) == approvals.CodeNotFound:
		return e, noEndpoint()
	case err != nil:
		return e, fmt.Errorf("read endpoint %s: %w", id, err)
	case !x.tends(e.Caller):
		return db.Endpoint{}, noEndpoint()
	}
	return e, nil
}

// tended is [operations.endpoint] for who wants to do something to it.
func (o operations) tended(ctx context.Context, x *exchange, id string) (db.Endpoint, error) {
	e, err := o.endpoint(ctx, x, id)
	if err != nil {
		return e, err
	}
	return e, x.mayTend(e.Caller)
}

// GetCallbackEndpoint shows an endpoint.
func (o operations) GetCallbackEndpoint(ctx context.Context, r GetCallbackEndpointRequestObject) (GetCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.endpoint(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	return private(o.showEndpoint(x, e)), nil
}

// VerifyCallbackEndpoint asks an endpoint now whether it wants callbacks.
func (o operations) VerifyCallbackEndpoint(ctx context.Context, r VerifyCallbackEndpointRequestObject) (VerifyCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.tended(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	if _, err := configured(x.config, e); err != nil {
		return nil, err
	}
	if o.verifyEndpoint == nil {
		return nil, callsElsewhere()
	}
	if err := o.mayAsk(e); err != nil {
		return nil, err
	}
	if err := o.store.NoteServiceEvent(ctx, db.EndpointStream(e.ID), verificationRequested, x.actor(), nil); err != nil {
		return nil, fmt.Errorf("note who has endpoint %s verified: %w", e.ID, err)
	}
	if err := o.verifyEndpoint(ctx, e.ID); err != nil {
		return nil, fmt.Errorf("verify endpoint %s: %w", e.ID, err)
	}
	return o.endpointNow(ctx, x, e.ID, nil)
}

// asks bounds how often one endpoint is verified and tested because somebody wants it, whoever
// that is: each time it is called, perhaps before it has agreed to be, and a line is kept for good.
var asks = policy.Rate{N: 20, Per: time.Minute}

// mayAsk refuses what would be too much for an endpoint.
func (o operations) mayAsk(e db.Endpoint) error {
	g := o.limiter.take(bucket{"asks", e.ID}, asks, o.now())
	if g.ok {
		return nil
	}
	f := fail(codeQuotaExceeded, "this endpoint was verified and tested often enough for now").retryAfter(g.more)
	f.violated = []string{"endpoint-asks"}
	return f
}

// callsElsewhere says that this process makes no calls.
func callsElsewhere() error {
	return fail(codeUnavailable, "this process makes no calls; ask another one").retryAfter(5 * time.Second)
}

// configured finds what the configuration says of an endpoint.
func configured(config *policy.Config, e db.Endpoint) (policy.Endpoint, error) {
	caller, known := config.Caller(e.Caller)
	if settings, listed := caller.Endpoint(e.Origin); known && listed {
		return settings, nil
	}
	return policy.Endpoint{}, ErrEndpointGone
}

// endpointNow answers with an endpoint as it is after something was done to it.
func (o operations) endpointNow(ctx context.Context, x *exchange, id string, held *int) (answer, error) {
	e, err := o.store.EndpointByID(ctx, id)
	if err != nil {
		return answer{}, fmt.Errorf("read endpoint %s: %w", id, err)
	}
	shown := o.showEndpoint(x, e)
	shown.Held = held
	return private(shown), nil
}

// EnableCallbackEndpoint has an endpoint sent callbacks again.
func (o operations) EnableCallbackEndpoint(ctx context.Context, r EnableCallbackEndpointRequestObject) (EnableCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.tended(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	held, err := o.store.EnableEndpoint(ctx, e.ID, x.actor())
	if err != nil {
		return nil, fmt.Errorf("enable endpoint %s: %w", e.ID, err)
	}
	return o.endpointNow(ctx, x, e.ID, &held)
}

// DisableCallbackEndpoint has nothing more sent to an endpoint.
func (o operations) DisableCallbackEndpoint(ctx context.Context, r DisableCallbackEndpointRequestObject) (DisableCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.tended(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	why := strings.TrimSpace(r.Body.Reason)
	mistake := textMistake(why, maxReason)
	if why == "" {
		mistake = "is empty"
	}
	if mistake != "" {
		return nil, failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/reason", Detail: mistake}})
	}
	if err := o.store.DisableEndpoint(ctx, e.ID, x.actor(), why); err != nil {
		return nil, fmt.Errorf("disable endpoint %s: %w", e.ID, err)
	}
	return o.endpointNow(ctx, x, e.ID, nil)
}

// TestCallbackEndpoint posts a test event to an endpoint.
func (o operations) TestCallbackEndpoint(ctx context.Context, r TestCallbackEndpointRequestObject) (TestCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.tended(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	address := ""
	if r.Body != nil {
		address = r.Body.URL
	}
	if address == "" && e.ProbeURL == "" {
		if address, err = o.lastAddress(ctx, e.ID); err != nil {
			return nil, err
		}
	}
	if err := o.checkTest(x, e, address); err != nil {
		return nil, err
	}
	if err := o.mayAsk(e); err != nil {
		return nil, err
	}
	if err := o.store.NoteServiceEvent(ctx, db.EndpointStream(e.ID), endpointTested, x.actor(), nil); err != nil {
		return nil, fmt.Errorf("note who tests endpoint %s: %w", e.ID, err)
	}
	got, err := o.testEndpoint(ctx, e.ID, address)
	if err != nil {
		return nil, fmt.Errorf("test endpoint %s: %w", e.ID, err)
	}
	got.Response = strings.ToValidUTF8(got.Response, "\ufffd")
	return private(got), nil
}

// lastAddress is where the newest delivery to an endpoint goes, "" when there is none: one whose
// verification is waived is never asked, and so not known by where it is asked.
func (o operations) lastAddress(ctx context.Context, id string) (string, error) {
	found, err := o.store.Deliveries(ctx, db.DeliveryFilter{EndpointID: id, Limit: 1})
	if err != nil {
		return "", fmt.Errorf("find the newest delivery to endpoint %s: %w", id, err)
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0].URL, nil
}

// checkTest says why an endpoint cannot be tested at an address, "" for where it is asked.
func (o operations) checkTest(x *exchange, e db.Endpoint, address string) error {
	settings, err := configured(x.config, e)
	if err != nil {
		return err
	}
	if e.Verification != db.Verified && !settings.Waived {
		return ErrEndpointUnverified
	}
	why := ""
	if origin, err := o.checkCallback(address); address == "" {
		if e.ProbeURL == "" {
			why = "it is not known yet where this endpoint takes callbacks; name an address under its origin in url"
		}
	} else if err != nil {
		why = err.Error()
	} else if origin != e.Origin {
		why = "the URL is not under the origin of this endpoint"
	}
	switch {
	case why != "":
		return failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/url", Detail: cut(why, maxEcho)}})
	case o.testEndpoint == nil:
		return callsElsewhere()
	}
	return nil
}

// showEndpoint renders an endpoint for whoever asks.
func (o operations) showEndpoint(x *exchange, e db.Endpoint) CallbackEndpoint {
	settings, err := configured(x.config, e)
	self := o.publicURL + "/v1/callback-endpoints/" + e.ID
	out := CallbackEndpoint{
		ID: e.ID, Caller: e.Caller, Origin: e.Origin, State: stateOf(e, settings, err == nil, o.now()), CreatedAt: Timestamp{e.CreatedAt},
		Verification: EndpointVerification{
			State: string(e.Verification), VerifiedAt: Timestamp{e.VerifiedAt}, How: e.VerifiedHow, Tries: e.VerifyTries,
			NextAt: Timestamp{e.VerifyDueAt}, Error: e.VerifyError, URL: x.shownURL(e.ProbeURL),
		},
		Health: EndpointHealth{
			Failures: e.Failures, FailingSince: Timestamp{e.FailingSince}, SucceededAt: Timestamp{e.SucceededAt}, FailedAt: Timestamp{e.FailedAt},
			HeldUntil: o.stillToCome(e.HeldUntil), RestingUntil: o.stillToCome(e.Health.OpenUntil),
		},
		Links: EndpointLinks{Self: self, Stats: self + "/stats", Deliveries: self + "/deliveries"},
	}
	if e.Disabled() {
		out.Disabled = &EndpointDisabled{At: Timestamp{e.DisabledAt}, By: shownDisabler(e), Reason: e.DisabledWhy}
	}
	if err == nil {
		out.Settings = showSettings(settings, e)
	}
	return out
}

// stillToCome is a time until which something holds, null once it has passed.
func (o operations) stillToCome(at time.Time) Timestamp {
	if !at.After(o.now()) {
		return Timestamp{}
	}
	return Timestamp{at}
}

// shownDisabler is who has disabled an endpoint. Which of our processes it was is nobody's
// business.
func shownDisabler(e db.Endpoint) string {
	if e.DisabledBy != e.Caller && strings.HasPrefix(e.DisabledBy, "worker_") {
		return "Countersign"
	}
	return e.DisabledBy
}

// stateOf is the one word for how an endpoint is: the first thing that keeps callbacks from it.
func stateOf(e db.Endpoint, settings policy.Endpoint, known bool, now time.Time) string {
	switch {
	case !known:
		return "unconfigured"
	case e.Disabled():
		return "disabled"
	case e.Verification != db.Verified && !settings.Waived:
		return "unverified"
	case e.HeldUntil.After(now):
		return "held"
	case e.Health.Open(now):
		return "resting"
	}
	return "active"
}

func showSettings(s policy.Endpoint, e db.Endpoint) *EndpointSettings {
	out := &EndpointSettings{
		Payload: s.Payload, Signature: "hmac", Concurrency: s.Concurrency, TimeoutMs: s.Timeout.Milliseconds(),
		ScheduleS: []float64{}, DisableAfterS: int64(s.DisableAfter / time.Second), RatePerMinute: float64(e.AllowedRate),
	}
	if s.Payload == "" {
		out.Payload = "auto"
	}
	if s.Ed25519 {
		out.Signature = "ed25519"
	}
	if !s.Rate.IsZero() {
		out.RatePerMinute = float64(s.Rate.N) * float64(time.Minute) / float64(s.Rate.Per)
	}
	for _, wait := range s.Schedule {
		out.ScheduleS = append(out.ScheduleS, wait.Seconds())
	}
	return out
}

// shownURL is an address as whoever asks may see it: people see its origin, for callers put
// tokens behind it.
func (x *exchange) shownURL(raw string) string {
	if x.person.Name == "" || raw == "" {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return hidden
	}
	return u.Scheme + "://" + u.Host
}

const (
	defaultStats = 24 * time.Hour
	maxStats     = 31 * 24 * time.Hour
)

// GetCallbackEndpointStats counts what became of an endpoint's deliveries.
func (o operations) GetCallbackEndpointStats(ctx context.Context, r GetCallbackEndpointStatsRequestObject) (GetCallbackEndpointStatsResponseObject, error) {
	x := exchangeOf(ctx)
	e, err := o.endpoint(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	since, err := parseTime("since", r.Params.Since)
	if err != nil {
		return nil, err
	}
	if since.IsZero() {
		since = o.now().Add(-defaultStats)
	}
	if since.Before(o.now().Add(-maxStats)) {
		return nil, badParameter("since", "since must not be more than 31 days ago")
	}
	s, err := o.store.EndpointStats(ctx, e.ID, since)
	if err != nil {
		return nil, fmt.Errorf("count deliveries of endpoint %s: %w", e.ID, err)
	}
	return private(EndpointStats{
		Since: Timestamp{since}, Pending: s.Pending, Due: s.Due, Sending: s.Claimed, OldestDue: Timestamp{s.OldestDue},
		Delivered: s.Delivered, Exhausted: s.Exhausted, Attempts: s.Attempts, Failed: s.Failed, P50Ms: s.P50, P99Ms: s.P99,
	}), nil
}

// due answers that something will be done.
func due(body any) answer {
	a := private(body)
	a.status = http.StatusAccepted
	return a
}
