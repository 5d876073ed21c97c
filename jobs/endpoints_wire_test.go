package jobs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/egress/egresstest"
	"countersign/jobs"
)

// by has a runner post callbacks under another policy.
func (w *world) by(p egress.Policy) func(*jobs.Config) {
	return func(c *jobs.Config) {
		w.tb.Helper()
		var err error
		c.Deliverer, err = egress.NewDeliverer(egress.DelivererConfig{Policy: p, Version: "test", Timeout: 2 * time.Second, Now: wallClock})
		require.NoError(w.tb, err)
		w.tb.Cleanup(c.Deliverer.Close)
	}
}

func TestAnEndpointIsSignedForAndConnectedToAsItsConfigurationSays(t *testing.T) {
	t.Parallel()
	certificate, key, ours := identity(t)
	receiver := serve(t)
	private := httptest.NewUnstartedServer(http.HandlerFunc(receiver.handle))
	private.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours, MinVersion: tls.VersionTLS12}
	private.StartTLS()
	t.Cleanup(private.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private.Certificate().Raw})
	text := "whsk_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))

	w := setup(t)
	w.reload(func(s *shape) {
		s.swap = append(s.swap, "\negress:", "\nsigning: {keys: [\"file:"+keep(t, text)+"\"]}\negress:")
	})
	w.origins(fmt.Sprintf(`{origin: %q, signature: ed25519, ca: "file:%s", certificate: {certificate: "file:%s", key: "file:%s"}}`,
		private.URL, keep(t, string(authority)), keep(t, certificate), keep(t, key)), fmt.Sprintf("%q", w.receiver.url()))
	w.run()
	told, plain := w.submit(call{method: http.MethodGet, tell: private.URL}).ID, w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(told, approvals.Succeeded, approvals.CallbackDelivered)
	w.awaitTold(plain, approvals.Succeeded, approvals.CallbackDelivered)

	signer, err := egress.ParseSigningKey(text)
	require.NoError(t, err)
	require.Len(t, receiver.requests(), 1)
	r := receiver.requests()[0]
	requireSigned(t, r) // by the secret as well
	public := []egress.PublicKey{signer.PublicKey()}
	require.NoError(t, egress.VerifyEd25519(public, r.header, []byte(r.body), wallClock(), 5*time.Minute))
	require.Error(t, egress.VerifyEd25519(public, r.header, []byte(r.body+" "), wallClock(), 5*time.Minute))
	require.NotContains(t, w.receiver.requests()[0].header.Get("Webhook-Signature"), "v1a,", "who did not ask for it")
	w.requireWhole(told)

	w.shape.swap = nil
	w.origins(fmt.Sprintf(`{origin: %q, ca: "file:%s"}`, private.URL, keep(t, string(authority)))) // without our certificate
	refused := w.submit(call{method: http.MethodGet, tell: private.URL}).ID
	w.awaitTold(refused, approvals.Succeeded, approvals.CallbackExhausted)
	require.Len(t, receiver.requests(), 1)
}

func TestACallbackCarriesAsMuchOfTheResultAsItsEndpointWants(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const size = 40 << 10
	w.upstream.answers(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(rw, strings.Repeat("x", size))
	})
	full, thin := serve(t), serve(t)
	w.origins(fmt.Sprintf("%q", w.receiver.url()), fmt.Sprintf("{origin: %q, payload: full}", full.url()), fmt.Sprintf("{origin: %q, payload: thin}", thin.url()))
	w.run()
	for name, c := range map[string]struct {
		to      *server
		plan    func(*approvals.Plan)
		omitted any
	}{
		"auto":            {w.receiver, nil, "too_large"},
		"full":            {full, nil, nil},
		"thin":            {thin, nil, "thin"},
		"full, sensitive": {full, func(p *approvals.Plan) { p.Sensitive = true }, "sensitive"},
	} {
		id := w.submit(call{method: http.MethodGet, tell: c.to.url(), plan: c.plan}).ID
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
		all := c.to.requests()
		r := all[len(all)-1]
		requireSigned(t, r)
		var body struct {
			Data struct {
				TicketID string         `json:"ticket_id"`
				Result   map[string]any `json:"result"`
				Omitted  any            `json:"result_omitted"`
				Links    struct{ Result string }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(r.body), &body), name)
		require.Equal(t, id, body.Data.TicketID, name)
		require.Equal(t, c.omitted, body.Data.Omitted, name)
		require.NotEmpty(t, body.Data.Links.Result, name)
		require.Equal(t, c.omitted == nil, body.Data.Result != nil, name)
		require.Equal(t, c.omitted == nil, strings.Contains(r.body, strings.Repeat("x", size)), name)
		d := w.delivery(id)
		require.Equal(t, string(d.Payload), r.body, name)
	}
}

func TestANameThatCannotBeResolvedIsTriedBySchedule(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.origins(`"https://receiver.invalid"`)
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no resolver")
	}}
	w.run(w.by(egress.Policy{Resolver: nowhere}))
	id := w.submit(call{method: http.MethodGet, tell: "https://receiver.invalid"}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	require.Len(t, w.attempts(id), 4)
	a := w.attempt(id, 1)
	require.Equal(t, []any{egress.ErrorDNS, "the name could not be resolved", 0}, []any{a.Class, a.Error, a.Status})
	require.Empty(t, a.Address)
}

func TestADestinationThatIsNotAllowedIsGivenUpAtOnceAndSaysNothingOfTheEndpoint(t *testing.T) {
	t.Parallel()
	w := setup(t)
	log := &logbook{}
	w.run(w.by(egress.Policy{AllowHTTP: true}), func(c *jobs.Config) { c.Logger = log.logger() }) // not loopback, as it was at the start
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	require.Len(t, w.attempts(id), 1)
	a := w.attempt(id, 1)
	require.Equal(t, []any{egress.ErrorBlocked, "destination is not allowed"}, []any{a.Class, a.Error})
	require.Empty(t, a.Address, "no address is said")
	require.Zero(t, w.endpoint(w.receiver.url()).Failures, "nothing was sent there")
	require.Empty(t, w.receiver.requests())
	eventually(t, "the dead letter is in the log", func() bool { return strings.Contains(log.text(), `"msg":"callback was given up"`) })
	require.Equal(t, 1, strings.Count(log.text(), "callback was given up"))
	require.Contains(t, log.text(), w.delivery(id).MessageID)
}

func TestAFailureOfOurOwnProxyIsNotChargedAndNotTriedAgainAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	down := &url.URL{Scheme: "http", Host: egresstest.Refusing(t)}
	r := w.runner(sweeping, w.by(egress.Policy{AllowLoopback: true, AllowHTTP: true, Proxy: down}))
	require.NoError(t, r.Start(t.Context()))
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitState(id, approvals.Succeeded)
	eventually(t, "put off", func() bool {
		d := w.delivery(id)
		return d.ClaimedBy == "" && d.NextAttemptAt.Sub(d.CreatedAt) > 29*time.Second
	})
	conn := superuser(t, w.url)
	_, err := conn.Exec(t.Context(), `SET session_replication_role = replica`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `UPDATE deliveries SET created_at = now() - interval '1 hour', next_attempt_at = now()`)
	require.NoError(t, err)
	eventually(t, "put off for longer", func() bool {
		d := w.delivery(id)
		return d.ClaimedBy == "" && d.NextAttemptAt.Sub(wallClock()) > 4*time.Minute
	})
	require.Equal(t, approvals.CallbackPending, w.ticket(id).CallbackState)
	w.settled()
	require.Empty(t, w.attempts(id), "it is our fault")
	e := w.endpoint(w.receiver.url())
	require.Zero(t, e.Failures)
	require.Zero(t, e.Health.Trips)
	w.halt(r)

	address, connected, _ := proxy(t)
	up, err := url.Parse(address)
	require.NoError(t, err)
	w.sql(`UPDATE deliveries SET next_attempt_at = now()`)
	w.run(sweeping, w.by(egress.Policy{AllowLoopback: true, AllowHTTP: true, Proxy: up}))
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Len(t, w.attempts(id), 1)
	require.EqualValues(t, 1, connected.Load())
}

func TestWhatWaitedIsSentOnceItsEndpointIsEnabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(func(c *jobs.Config) { c.SweepEvery = time.Hour }) // nobody else finds it
	e := w.endpoint(w.receiver.url())
	require.NoError(t, w.store.DisableEndpoint(t.Context(), e.ID, dora(), "it is being moved"))
	var ids []string
	for range 20 { // more than are woken
		ids = append(ids, w.submit(call{method: http.MethodGet}).ID)
	}
	for _, id := range ids {
		w.awaitState(id, approvals.Succeeded)
	}
	w.settled()
	require.Empty(t, w.receiver.requests())
	_, err := w.store.EnableEndpoint(t.Context(), e.ID, dora())
	require.NoError(t, err)
	for _, id := range ids {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	}
}

func TestPeopleAreToldOnceInAWhileOfDeadLettersEvenByAnotherProcess(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.reload(func(s *shape) {
		s.swap = append(s.swap, "callbacks: {verification", `callbacks: {alert: "#approvals", verification`)
	})
	w.receiver.answers(header(http.StatusBadRequest, "Webhook-Delivery", "abort-message"))
	r := w.runner()
	var ids []string
	giveUp := func() {
		t.Helper()
		ids = append(ids, w.submit(call{method: http.MethodGet}).ID)
		w.awaitTold(ids[len(ids)-1], approvals.Succeeded, approvals.CallbackExhausted)
	}
	// While somebody else has the turn to tell people, this process gives two up and dies.
	require.NoError(t, w.store.Exclusively(t.Context(), "endpoints", func(ctx context.Context) error {
		require.NoError(t, r.Start(ctx))
		giveUp()
		giveUp()
		w.halt(r) //nolint:contextcheck // it stops in its own time
		return nil
	}))
	require.False(t, w.endpoint(w.receiver.url()).DeadLetterAt.IsZero())
	w.run(w.withSlack(space.client()))
	all := space.awaitTitles("A callback was given up")
	require.Contains(t, all[0].Text, callerName)
	eventually(t, "it is noted that people were told", func() bool { return w.endpoint(w.receiver.url()).DeadLetterAt.IsZero() })
	giveUp()
	require.False(t, w.endpoint(w.receiver.url()).DeadLetterAt.IsZero())
	untold, err := w.store.UntoldEndpoints(t.Context(), time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, untold, "not within the hour")
	require.Equal(t, 1, w.number(`SELECT count(*) FROM slack_outbox`))
	require.Equal(t, []string{db.EndpointDeadLetter, db.EndpointDeadLetter}, w.endpointEvents(w.endpoint(w.receiver.url()).ID))

	w.sql(`UPDATE callback_endpoints SET alerted_at = now() - interval '61 minutes'`)
	space.awaitTitles("A callback was given up", "A callback was given up")
}

func TestALogOfAVainQuestionSaysWhyItWasVain(t *testing.T) {
	t.Parallel()
	w, log := setup(t), &logbook{}
	w.reload(func(s *shape) { s.swap = append(s.swap, "verification: waived, ", "") })
	w.receiver.answers(header(http.StatusFound, "Location", "/elsewhere"))
	w.origins(fmt.Sprintf(`{origin: %q, verify: /verify}`, w.receiver.url()))
	w.run(func(c *jobs.Config) { c.Logger = log.logger() })
	eventually(t, "asked in vain", func() bool { return w.endpoint(w.receiver.url()).VerifyTries > 0 })
	require.Contains(t, log.text(), `"verified":false,"class":"http_status","reason":"the receiver answered with a redirect, which is not followed","status":302`)
}
