package jobs_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress/egresstest"
	"countersign/jobs"
)

// origins has the caller's callbacks go to these origins, each in YAML, instead of to the
// world's receiver.
func (w *world) origins(items ...string) {
	w.tb.Helper()
	w.reload(func(s *shape) {
		s.swap = append(s.swap, `origins: ["`+s.receiver+`"]`, `origins: [`+strings.Join(items, ",\n      ")+`]`)
	})
}

func (w *world) endpoint(address string) db.Endpoint {
	w.tb.Helper()
	e, err := w.store.Endpoint(w.tb.Context(), callerName, address)
	require.NoError(w.tb, err)
	return e
}

// delivery is that of a ticket's last final event.
func (w *world) delivery(id string) db.Delivery {
	w.tb.Helper()
	d, err := w.store.Delivery(w.tb.Context(), id, w.ticket(id).CallbackSeq)
	require.NoError(w.tb, err)
	return d
}

func (w *world) endpointEvents(id string) (out []string) {
	w.tb.Helper()
	events, err := w.store.ServiceEvents(w.tb.Context(), db.EndpointStream(id), 0, 100)
	require.NoError(w.tb, err)
	for _, e := range events {
		out = append(out, e.Type)
	}
	return out
}

func dora() approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorPerson, Name: "dora", Via: "api"}
}

// header answers with a status and one field.
func header(status int, name, value string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set(name, value)
		rw.WriteHeader(status)
	}
}

func only(status int) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(status) }
}

func TestEveryAnswerOfAReceiverHasItsConsequence(t *testing.T) {
	t.Parallel()
	const soon, slow, never = 10 * time.Second, time.Minute, time.Duration(0)
	rows := map[string]struct {
		answer   http.HandlerFunc // nil: origin says where nobody answers
		origin   string
		state    approvals.CallbackState
		status   int
		class    string
		next     time.Duration // the least wait until the next attempt
		held     time.Duration // the least time for which the endpoint is left alone
		disabled bool
	}{
		"2xx":                       {answer: only(204), state: approvals.CallbackDelivered, status: 204},
		"2xx, disable":              {answer: header(200, "Webhook-Delivery", "disable"), state: approvals.CallbackDelivered, status: 200, disabled: true},
		"3xx":                       {answer: header(302, "Location", "/elsewhere"), state: approvals.CallbackPending, status: 302, class: "http_status", next: soon},
		"410":                       {answer: only(410), state: approvals.CallbackExhausted, status: 410, class: "http_status", next: never, disabled: true},
		"429 with Retry-After":      {answer: header(429, "Retry-After", "7200"), state: approvals.CallbackPending, status: 429, class: "http_status", next: 2 * time.Hour, held: 2 * time.Hour},
		"503 with Retry-After":      {answer: header(503, "Retry-After", "120"), state: approvals.CallbackPending, status: 503, class: "http_status", next: 2 * time.Minute, held: 2 * time.Minute},
		"503 with a week":           {answer: header(503, "Retry-After", "604800"), state: approvals.CallbackPending, status: 503, class: "http_status", next: 24 * time.Hour, held: 24 * time.Hour},
		"503 without":               {answer: only(503), state: approvals.CallbackPending, status: 503, class: "http_status", next: soon},
		"429 without":               {answer: only(429), state: approvals.CallbackPending, status: 429, class: "http_status", next: slow},
		"502":                       {answer: only(502), state: approvals.CallbackPending, status: 502, class: "http_status", next: slow},
		"504":                       {answer: only(504), state: approvals.CallbackPending, status: 504, class: "http_status", next: slow},
		"404":                       {answer: only(404), state: approvals.CallbackPending, status: 404, class: "http_status", next: soon},
		"500":                       {answer: only(500), state: approvals.CallbackPending, status: 500, class: "http_status", next: soon},
		"500, disable":              {answer: header(500, "Webhook-Delivery", "disable"), state: approvals.CallbackExhausted, status: 500, class: "http_status", next: never, disabled: true},
		"400, abort-message":        {answer: header(400, "Webhook-Delivery", "abort-message"), state: approvals.CallbackExhausted, status: 400, class: "http_status", next: never},
		"the connection ends":       {answer: hangUp, state: approvals.CallbackPending, class: "reset", next: soon},
		"no answer in time":         {answer: sleepy, state: approvals.CallbackPending, class: "timeout", next: slow},
		"no connection":             {origin: "http://" + egresstest.Refusing(t), state: approvals.CallbackPending, class: "connect", next: soon},
		"no TLS where there should": {answer: only(200), origin: "https", state: approvals.CallbackPending, class: "tls", next: soon},
	}
	w := setup(t)
	origins := map[string]string{}
	var items []string
	for name, row := range rows {
		origin := row.origin
		if row.answer != nil {
			s := serve(t)
			s.answers(row.answer)
			if origin = s.url(); row.origin == "https" {
				origin = "https" + strings.TrimPrefix(origin, "http")
			}
		}
		origins[name] = origin
		items = append(items, fmt.Sprintf(`{origin: %q, timeout: 1s, schedule: [0s, %s, 1h, 1h]}`, origin, soon*5/4)) // a fifth less is soon
	}
	w.origins(items...)
	w.run()
	ids := map[string]string{}
	for name := range rows {
		ids[name] = w.submit(call{method: http.MethodGet, tell: origins[name]}).ID
	}
	for name, row := range rows {
		eventually(t, name, func() bool {
			return w.number(`SELECT count(*) FROM delivery_attempts WHERE ticket_id = $1`, ids[name]) == 1
		})
		d := w.delivery(ids[name])
		require.Equal(t, row.state, d.State, name)
		require.Equal(t, row.state, w.ticket(ids[name]).CallbackState, name)
		attempts, err := w.store.Attempts(t.Context(), d.MessageID)
		require.NoError(t, err)
		require.Len(t, attempts, 1, name)
		a := attempts[0]
		require.Equal(t, row.status, a.Status, name)
		require.Equal(t, row.class, a.Class, name)
		require.Nil(t, a.Snippet, "%s: only of those who agreed to be sent something", name)
		require.Equal(t, d.NextAttemptAt, a.NextAt, name)
		if row.state == approvals.CallbackPending {
			require.GreaterOrEqual(t, a.NextAt.Sub(a.At), row.next, name)
			require.Less(t, a.NextAt.Sub(a.At), row.next+row.next/2+10*time.Second, name)
		}
		e := w.endpoint(origins[name])
		require.Equal(t, row.disabled, e.Disabled(), name)
		require.Equal(t, row.held > 0, !e.HeldUntil.IsZero(), name)
		if row.held > 0 {
			require.Equal(t, row.held, e.HeldUntil.Sub(a.At), name)
		}
		require.Equal(t, row.state == approvals.CallbackDelivered, e.Failures == 0, name)
		w.requireWhole(ids[name])
	}
}

func hangUp(rw http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(rw).Hijack(); err == nil {
		_ = conn.Close()
	}
}

func sleepy(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestAHangingEndpointHoldsOnlyItsOwnPlaces(t *testing.T) {
	t.Parallel()
	w := setup(t)
	hung := serve(t)
	release := hung.hangs()
	w.origins(fmt.Sprintf(`{origin: %q, timeout: 30s}`, hung.url()), strconv.Quote(w.receiver.url()))
	w.run(sweeping)
	var stuck, fine []string
	for range 12 {
		stuck = append(stuck, w.submit(call{method: http.MethodGet, tell: hung.url()}).ID)
	}
	for range 4 {
		receive(t, "a callback that hangs", hung.got)
	}
	for range 20 {
		fine = append(fine, w.submit(call{method: http.MethodGet}).ID)
	}
	for _, id := range fine {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	}
	require.Len(t, hung.requests(), 4, "no more than its places while others were served")
	require.Equal(t, 4, w.number(`SELECT count(*) FROM deliveries WHERE claimed_by IS NOT NULL`))
	require.Zero(t, w.number(`SELECT count(*) FROM deliveries d WHERE attempts > 0 AND endpoint_id = $1`, w.endpoint(hung.url()).ID), "nothing is charged to those who wait")
	release()
	for _, id := range stuck {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
		require.Len(t, w.attempts(id), 1)
	}
	require.Len(t, hung.requests(), len(stuck))
}

func TestTwoProcessesMakeEveryAttemptOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(sweeping)
	w.run(sweeping)
	var ids []string
	for range 60 {
		ids = append(ids, w.submit(call{method: http.MethodGet}).ID)
	}
	for _, id := range ids {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	}
	w.settled()
	seen := map[string]int{}
	for _, r := range w.receiver.requests() {
		seen[r.header.Get("Webhook-Id")]++
	}
	require.Len(t, seen, len(ids))
	require.Len(t, w.receiver.requests(), len(ids))
}

func TestRetryAfterHoldsTheWholeEndpointAcrossARestart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.answers(header(503, "Retry-After", "5"))
	r := w.runner(sweeping)
	require.NoError(t, r.Start(t.Context()))
	first := w.submit(call{method: http.MethodGet}).ID
	receive(t, "the first attempt", w.receiver.got)
	w.awaitAttempts(first, 1)
	second := w.submit(call{method: http.MethodGet}).ID
	w.awaitState(second, approvals.Succeeded)
	w.halt(r)
	held := w.endpoint(w.receiver.url()).HeldUntil
	require.False(t, held.IsZero())
	w.receiver.status(http.StatusOK)
	w.run(sweeping)
	for _, id := range []string{first, second} {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
		attempts := w.attempts(id)
		last, err := w.store.Attempts(t.Context(), w.delivery(id).MessageID)
		require.NoError(t, err)
		require.False(t, last[len(last)-1].At.Before(held), "sent while it was held")
		require.Len(t, attempts, map[string]int{first: 2, second: 1}[id], "to be held is not charged")
	}
}

func TestADisabledEndpointIsOwedWhatItMissesUntilItIsEnabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusGone)
	w.run(sweeping)
	gone := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(gone, approvals.Succeeded, approvals.CallbackExhausted)
	e := w.endpoint(w.receiver.url())
	require.True(t, e.Disabled())
	require.Equal(t, "the receiver answered 410 Gone", e.DisabledWhy)
	held := w.submit(call{method: http.MethodGet}).ID
	w.awaitState(held, approvals.Succeeded)
	w.settled()
	require.Len(t, w.receiver.requests(), 1)
	require.Equal(t, approvals.CallbackPending, w.ticket(held).CallbackState)
	for _, id := range []string{gone, held} {
		_, err := w.store.Redeliver(t.Context(), w.delivery(id).MessageID, dora())
		require.ErrorIs(t, err, db.ErrEndpointDisabled)
	}
	_, err := w.store.Recover(t.Context(), e.ID, time.Time{}, time.Time{}, nil, dora())
	require.ErrorIs(t, err, db.ErrEndpointDisabled)
	require.Zero(t, count(w.events(gone), approvals.EventRedeliveryRequested))

	w.receiver.status(http.StatusOK)
	n, err := w.store.EnableEndpoint(t.Context(), e.ID, dora())
	require.NoError(t, err)
	require.Equal(t, 1, n, "what is owed")
	w.awaitTold(held, approvals.Succeeded, approvals.CallbackDelivered)
	require.Len(t, w.attempts(held), 1)
	require.Equal(t, []string{db.EndpointDisabled, db.EndpointDeadLetter, db.EndpointRedelivered, db.EndpointEnabled}, w.endpointEvents(e.ID))

	n, err = w.store.Recover(t.Context(), e.ID, time.Time{}, time.Time{}, nil, dora())
	require.NoError(t, err)
	require.Equal(t, 1, n, "the dead letter")
	w.awaitTold(gone, approvals.Succeeded, approvals.CallbackDelivered)
	requests := w.receiver.requests()
	require.Len(t, requests, 3)
	requireSameMessage(t, []received{requests[0], requests[2]})
	require.Equal(t, "manual", requests[2].header.Get("Countersign-Trigger"))
	require.Equal(t, "2", requests[2].header.Get("Countersign-Attempt"))
}

func TestRedeliveryTakesThePlaceOfTheNextAttempt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusInternalServerError)
	w.run(func(c *jobs.Config) { c.Schedule = []time.Duration{0, time.Hour, time.Hour} })
	id := w.submit(call{method: http.MethodGet}).ID
	w.await(id, "tried once", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventCallbackFailed) == 1 })
	message := w.delivery(id).MessageID
	ask := func() {
		t.Helper()
		_, err := w.store.Redeliver(t.Context(), message, dora())
		require.NoError(t, err)
	}
	ask()
	w.await(id, "tried again", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventCallbackFailed) == 2 })
	require.Greater(t, w.delivery(id).NextAttemptAt.Sub(w.attempt(id, 2).At), 30*time.Minute, "the schedule goes on behind it")
	ask()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	require.Len(t, w.attempts(id), 3, "it counts in the budget")
	w.receiver.status(http.StatusOK)
	ask()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	ask() // even so
	w.await(id, "sent once more", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventCallbackDelivered) == 2 })
	require.Equal(t, approvals.CallbackDelivered, w.ticket(id).CallbackState)
	requests := w.receiver.requests()
	require.Len(t, requests, 5)
	requireSameMessage(t, requests)
	for i, r := range requests {
		require.Equal(t, strconv.Itoa(i+1), r.header.Get("Countersign-Attempt"))
		require.Equal(t, map[bool]string{true: "auto", false: "manual"}[i == 0], r.header.Get("Countersign-Trigger"))
	}
	require.Equal(t, 4, count(w.requireWhole(id), approvals.EventRedeliveryRequested))
}

// awaitAttempts waits until so many attempts were recorded.
func (w *world) awaitAttempts(id string, n int) {
	w.tb.Helper()
	w.await(id, "tried", func(approvals.Ticket) bool {
		return w.number(`SELECT count(*) FROM delivery_attempts WHERE ticket_id = $1`, id) == n
	})
}

func (w *world) attempt(id string, number int) db.Attempt {
	w.tb.Helper()
	all, err := w.store.Attempts(w.tb.Context(), w.delivery(id).MessageID)
	require.NoError(w.tb, err)
	require.GreaterOrEqual(w.tb, len(all), number)
	return all[number-1]
}

func TestRedeliveryAskedForDuringAnAttemptFollowsItAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	proceed := make(chan struct{})
	var once sync.Once
	w.receiver.answers(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-proceed:
		case <-r.Context().Done():
		}
		status := http.StatusOK
		once.Do(func() { status = http.StatusInternalServerError })
		rw.WriteHeader(status)
	})
	w.run(func(c *jobs.Config) { c.Schedule = []time.Duration{0, time.Hour} })
	id := w.submit(call{method: http.MethodGet}).ID
	receive(t, "the first attempt", w.receiver.got)
	message := w.delivery(id).MessageID
	var asking sync.WaitGroup
	for range 5 { // at once
		asking.Go(func() {
			_, err := w.store.Redeliver(t.Context(), message, dora())
			require.NoError(t, err) //nolint:testifylint // it fails the test all the same
		})
	}
	asking.Wait()
	close(proceed)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	require.Len(t, w.receiver.requests(), 2)
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventRedeliveryRequested), "asking five times is asking once")
}

func TestAFailingEndpointIsLeftAloneAndTriedAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusInternalServerError)
	w.run(sweeping, func(c *jobs.Config) { c.Schedule = []time.Duration{0, time.Hour, time.Hour} })
	var failed []string
	for range 10 {
		failed = append(failed, w.submit(call{method: http.MethodGet}).ID)
	}
	for _, id := range failed {
		w.awaitAttempts(id, 1)
	}
	e := w.endpoint(w.receiver.url())
	require.Equal(t, 1, e.Health.Trips)
	require.Equal(t, 10, e.Failures)
	next := w.submit(call{method: http.MethodGet}).ID
	w.awaitState(next, approvals.Succeeded)
	w.settled()
	require.Len(t, w.receiver.requests(), 10, "the breaker is open")
	require.Empty(t, w.attempts(next), "and that is not charged")

	w.receiver.status(http.StatusOK)
	w.sql(`UPDATE callback_endpoints SET health = jsonb_set(health, '{open_until}', to_jsonb(now() - interval '1 second')) WHERE id = $1`, e.ID)
	w.awaitTold(next, approvals.Succeeded, approvals.CallbackDelivered)
	e = w.endpoint(w.receiver.url())
	require.Zero(t, e.Health.Trips)
	require.Zero(t, e.Failures)
	require.Equal(t, []string{db.EndpointTripped, db.EndpointRecovered}, w.endpointEvents(e.ID))
}

func TestAnEndpointThatNeverAnswersIsDisabledInTheEnd(t *testing.T) {
	t.Parallel()
	for name, past := range map[string]string{
		"for days":           `UPDATE callback_endpoints SET failures = 40, failing_since = now() - interval '121 hours'`,
		"ten trips in a row": `UPDATE callback_endpoints SET failures = 40, failing_since = now(), health = jsonb_build_object('trips', 9, 'open_until', now() - interval '1 second')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.receiver.status(http.StatusInternalServerError)
			w.run(func(c *jobs.Config) { c.Schedule = []time.Duration{0, time.Hour} })
			require.EqualValues(t, 1, w.sql(past))
			id := w.submit(call{method: http.MethodGet}).ID
			w.awaitAttempts(id, 1)
			e := w.endpoint(w.receiver.url())
			require.True(t, e.Disabled())
			require.Equal(t, approvals.CallbackPending, w.ticket(id).CallbackState, "held, not discarded")
			require.Contains(t, w.endpointEvents(e.ID), db.EndpointDisabled)
		})
	}
}

func TestPeopleAreToldOnceOfAnEndpointThatWasDisabled(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.reload(func(s *shape) {
		s.swap = append(s.swap, "callbacks: {verification", `callbacks: {alert: "#approvals", verification`)
	})
	w.receiver.status(http.StatusGone)
	w.run(w.withSlack(space.client()))
	w.run(w.withSlack(space.client())) // both processes look for what is to be told
	for range 2 {
		w.awaitState(w.submit(call{method: http.MethodGet}).ID, approvals.Succeeded)
	}
	all := space.awaitTitles("Callbacks are no longer sent")
	require.Contains(t, all[0].Text, callerName)
	e := w.endpoint(w.receiver.url())
	eventually(t, "it is noted that people were told", func() bool { return !w.endpoint(w.receiver.url()).AlertedAt.Before(e.DisabledAt) })
	require.Equal(t, 1, w.number(`SELECT count(*) FROM slack_outbox`))
}

func TestAnEndpointIsSentNothingUntilItHasAgreed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusOK) // which says nothing
	w.reload(func(s *shape) { s.swap = append(s.swap, "verification: waived, ", "") })
	w.origins(fmt.Sprintf(`{origin: %q, verify: /verify}`, w.receiver.url()))
	r := w.runner(sweeping)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { w.halt(r) })
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitState(id, approvals.Succeeded)
	e := w.endpoint(w.receiver.url())
	eventually(t, "asked in vain", func() bool { e = w.endpoint(w.receiver.url()); return e.VerifyTries > 0 })
	require.Equal(t, db.Unverified, e.Verification)
	require.NotEmpty(t, e.VerifyError)
	w.settled()
	for _, x := range w.receiver.requests() {
		require.Equal(t, "/verify", x.path, "nothing but the question")
	}
	require.Empty(t, w.attempts(id))

	w.receiver.answers(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/verify" {
			_ = json.NewEncoder(rw).Encode(map[string]string{"challenge": w.lastChallenge()})
			return
		}
		_, _ = io.WriteString(rw, "thanks")
	})
	require.NoError(t, r.Verify(t.Context(), e.ID))
	e = w.endpoint(w.receiver.url())
	require.Equal(t, db.Verified, e.Verification)
	require.Equal(t, "challenge", e.VerifiedHow)
	require.Empty(t, e.VerifyError)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, "thanks", string(w.attempt(id, 1).Snippet), "who agreed is read")
	require.Zero(t, w.number(`SELECT count(*) FROM delivery_attempts WHERE position('thanks'::bytea IN snippet) > 0`), "encrypted")
	require.NotEmpty(t, w.attempt(id, 1).Address)

	got, err := r.TestEndpoint(t.Context(), e.ID, w.receiver.url()+"/elsewhere")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, got.Status)
	_, err = r.TestEndpoint(t.Context(), e.ID, w.upstream.url()+"/hook")
	require.ErrorIs(t, err, jobs.ErrNotConfigured)
	require.Equal(t, "endpoint.test", typeOf(t, w.receiver.requests()[len(w.receiver.requests())-1]))
}

func typeOf(tb testing.TB, r received) string {
	tb.Helper()
	requireSigned(tb, r)
	var body struct{ Type string }
	require.NoError(tb, json.Unmarshal([]byte(r.body), &body))
	return body.Type
}

// lastChallenge is what the receiver was last asked to say.
func (w *world) lastChallenge() string {
	requests := w.receiver.requests()
	var body struct {
		Data struct{ Challenge string }
	}
	_ = json.Unmarshal([]byte(requests[len(requests)-1].body), &body)
	return body.Data.Challenge
}

func TestEveryLiveSecretSignsAndTheEndpointsOwnFieldsAreSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.reload(func(s *shape) {
		s.swap = append(s.swap, `secret: "env:CALLBACK"`, `secrets: ["env:CALLBACK", {secret: "env:CALLBACK_OLD", until: 2020-01-01T00:00:00Z}, {secret: "env:CALLBACK_NEXT", until: 2999-01-01T00:00:00Z}]`)
	})
	w.origins(fmt.Sprintf(`{origin: %q, headers: [{header: X-Auth, prefix: "Key ", value: "env:BILLING_TOKEN"}]}`, w.receiver.url()))
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	r := w.receiver.requests()[0]
	requireSigned(t, r)
	require.Len(t, strings.Fields(r.header.Get("Webhook-Signature")), 2, "the one whose time is over signs no more")
	require.Equal(t, "Key Bearer first", r.header.Get("X-Auth"))
}
