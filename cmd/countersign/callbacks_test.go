package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/client"
)

// receiver is what a caller builds with the client package. It hands over what it was sent.
func receiver(t *testing.T) (url string, got <-chan client.CallbackEvent) {
	t.Helper()
	out := make(chan client.CallbackEvent, 20)
	verify, err := client.VerifyCallback(client.CallbackConfig{
		Secrets: []client.Secret{callbackSecret}, Refused: func(_ *http.Request, why error) { t.Errorf("a callback was refused: %v", why) },
	})
	require.NoError(t, err)
	srv := httptest.NewServer(verify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, _ := client.EventFrom(r.Context())
		out <- e
		w.WriteHeader(http.StatusNoContent)
	})))
	t.Cleanup(srv.Close)
	return srv.URL, out
}

func TestCallbacksAreListedHeldAndSentOnceMore(t *testing.T) {
	t.Parallel()
	hook, got := receiver(t)
	o := openOffice(t, fmt.Sprintf(`, callbacks: {verification: waived, origins: [%q], secret: env:CALLBACK_SECRET}`, hook))
	r := o.run(t, "bot", "submit", "billing", "GET", "/a", "--callback", hook+"/done", "--callback-event", "ticket.approved", "--wait")
	require.Equal(t, 0, r.code, r.stderr)
	sent := map[string]client.CallbackEvent{}
	for range 2 {
		e := arrival(t, got, "a callback")
		sent[e.Type] = e
	}
	require.Contains(t, sent, "ticket.approved")
	first := sent["ticket.succeeded"]
	require.Equal(t, 1, first.Attempt)
	body, exact := first.Data.Result.Bytes()
	require.Contains(t, string(body), "GET")
	_ = exact // JSON may be written anew in a callback

	var line string
	require.Eventually(t, func() bool {
		line = o.run(t, "bot", "callbacks", "deliveries", first.ID).stdout.String()
		return strings.Contains(line, "delivered")
	}, commandLimit, 20*time.Millisecond, "the delivery is recorded")
	require.Contains(t, line, first.Data.TicketID)
	require.Contains(t, line, "204")
	require.Contains(t, o.run(t, "bot", "callbacks", "deliveries", "--ticket", first.Data.TicketID).stdout.String(), first.ID)

	r = o.run(t, "bot", "redeliver", first.ID)
	require.Equal(t, 0, r.code, r.stderr)
	again := arrival(t, got, "it is sent once more")
	require.Equal(t, first.ID, again.ID, "under the same id")
	require.True(t, again.Manual)
	require.Equal(t, string(first.Raw), string(again.Raw), "the same bytes")

	endpoint := o.endpoint(t)
	r = o.run(t, "bot", "callbacks", "test", endpoint)
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "endpoint.test", arrival(t, got, "the test event, where the newest callback went").Type)
	r = o.run(t, "bot", "callbacks", "disable", endpoint, "--why", "it is being moved")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "it is being moved")
	o.run(t, "bot", "redeliver", first.ID).requireRefused(t, exitFailed, "endpoint_disabled")
	r = o.run(t, "bot", "callbacks", "enable", endpoint)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "countersign redeliver --endpoint "+endpoint+" --since", "nothing waited; perhaps something was given up")
	r = o.run(t, "bot", "redeliver", first.Data.TicketID)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "--state delivered", "nothing was given up")
	r = o.run(t, "bot", "redeliver", first.Data.TicketID, "--state", "delivered")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, first.Data.TicketID, arrival(t, got, "all of the ticket").Data.TicketID)

	o.run(t, "bo", "callbacks", "show", endpoint).requireRefused(t, exitNotAllowed)
	require.Contains(t, o.run(t, "dora", "callbacks", "show", endpoint).stdout.String(), "waived")
}

// endpoint is the id of the one endpoint there is.
func (o office) endpoint(t *testing.T) string {
	t.Helper()
	r := o.run(t, "bot", "callbacks", "list", "--json")
	require.Equal(t, 0, r.code, r.stderr)
	id, _ := document(t, r.stdout.String())["id"].(string)
	require.NotEmpty(t, id)
	require.Contains(t, o.run(t, "bot", "callbacks", "list").stdout.String(), id)
	return id
}

func TestAnEndpointBuiltWithTheClientAgreesAndIsTested(t *testing.T) {
	t.Parallel()
	hook, got := receiver(t)
	o := openOffice(t, fmt.Sprintf(`, callbacks: {origins: [{origin: %q, verify: /hook}], secret: env:CALLBACK_SECRET}`, hook))
	endpoint := o.endpoint(t)
	r := o.run(t, "bot", "callbacks", "verify", endpoint)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "verified, by challenge")
	r = o.run(t, "dora", "callbacks", "test", endpoint, "--json")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, true, document(t, r.stdout.String())["delivered"])
	require.Equal(t, "endpoint.test", arrival(t, got, "the test event").Type)
	r = o.run(t, "bot", "submit", "billing", "GET", "/a", "--callback", hook+"/done", "--wait")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "ticket.succeeded", arrival(t, got, "the callback").Type)
}

func TestAnEndpointThatDoesNotAgreeIsSentNothing(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(stranger.Close)
	o := openOffice(t, fmt.Sprintf(`, callbacks: {origins: [%q], secret: env:CALLBACK_SECRET}`, stranger.URL))
	r := o.run(t, "bot", "submit", "billing", "GET", "/a", "--callback", stranger.URL+"/done")
	r.requireRefused(t, exitFailed, "callback_unverified")
	endpoint := o.endpoint(t)
	r = o.run(t, "bot", "callbacks", "verify", endpoint)
	r.requireRefused(t, exitFailed, "did not agree")
	require.Contains(t, r.stdout.String(), "unverified")
	o.run(t, "bot", "callbacks", "test", endpoint).requireRefused(t, exitFailed, "conflict")
}

func TestAnEndpointThatWasNeverSentAnythingIsTestedAtAnAddressThatIsGiven(t *testing.T) {
	t.Parallel()
	hook, got := receiver(t)
	o := openOffice(t, fmt.Sprintf(`, callbacks: {verification: waived, origins: [%q], secret: env:CALLBACK_SECRET}`, hook))
	endpoint := o.endpoint(t)
	o.run(t, "bot", "callbacks", "test", endpoint).requireRefused(t, exitFailed, "validation_failed", "--url URL")
	r := o.run(t, "bot", "callbacks", "test", endpoint, "--url", hook+"/hook")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "endpoint.test", arrival(t, got, "the test event").Type)
}
