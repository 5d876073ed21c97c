package client_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/client"
	"countersign/egress"
)

// vectorPrivate is the key of the published test vector.
const vectorPrivate = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="

func deliverer(t *testing.T) *egress.Deliverer {
	t.Helper()
	d, err := egress.NewDeliverer(egress.DelivererConfig{
		Policy: egress.Policy{AllowLoopback: true, AllowHTTP: true}, Now: time.Now, //nolint:forbidigo // timestamps are compared with the real clock
	})
	require.NoError(t, err)
	return d
}

func listening(t *testing.T, c client.CallbackConfig, handler http.HandlerFunc) (url string) {
	t.Helper()
	verify, err := client.VerifyCallback(c)
	require.NoError(t, err)
	server := httptest.NewServer(verify(handler))
	t.Cleanup(server.Close)
	return server.URL
}

func TestTheServersOwnDeliveriesVerifyWithSecretPublicKeyAndJWKS(t *testing.T) {
	t.Parallel()
	secret, err := egress.ParseSecret(vectorSecret)
	require.NoError(t, err)
	key, err := egress.ParseSigningKey(vectorPrivate)
	require.NoError(t, err)
	published := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(egress.JWKS([]egress.SigningKey{key}))
	}))
	t.Cleanup(published.Close)
	for name, c := range map[string]client.CallbackConfig{
		"secret":     {Secrets: []client.Secret{vectorSecret}},
		"public key": {PublicKeys: []string{vectorPublic}, AnyCaller: true},
		"jwks":       {JWKS: published.URL, AnyCaller: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan client.CallbackEvent, 1)
			url := listening(t, c, func(w http.ResponseWriter, r *http.Request) {
				e, _ := client.EventFrom(r.Context())
				got <- e
				w.WriteHeader(http.StatusNoContent)
			})
			attempt := egress.Attempt{
				URL: url + "/hook", ID: "msg_1", Number: 2, Body: []byte(succeeded),
				Secrets: []egress.Secret{secret}, SigningKeys: []egress.SigningKey{key},
			}
			require.Empty(t, deliverer(t).Do(t.Context(), attempt).Err)
			e := receive(t, got, "the event")
			require.Equal(t, "tkt_1", e.Data.TicketID)
			require.Equal(t, 2, e.Attempt)
			require.False(t, e.Manual)
		})
	}
}

func TestTheServersOwnChallengeIsAnswered(t *testing.T) {
	t.Parallel()
	secret, err := egress.ParseSecret(vectorSecret)
	require.NoError(t, err)
	for name, row := range map[string]struct {
		config client.CallbackConfig
		want   egress.ChallengeMethod
	}{
		"signed challenge":      {client.CallbackConfig{Secrets: []client.Secret{vectorSecret}}, egress.ByChallenge},
		"cloudevents handshake": {client.CallbackConfig{PublicKeys: []string{vectorPublic}, AnyCaller: true, AllowOrigin: "countersign.example.com"}, egress.ByCloudEvents},
		"neither":               {client.CallbackConfig{PublicKeys: []string{vectorPublic}, AnyCaller: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := listening(t, row.config, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
			result := deliverer(t).Challenge(t.Context(), egress.ChallengeRequest{
				URL: url + "/hook", ID: "msg_1", Secrets: []egress.Secret{secret}, Nonce: "nonce-of-the-test-12345", Origin: "countersign.example.com",
			})
			require.Equal(t, row.want != "", result.Verified, "%v", result.Cause)
			require.Equal(t, row.want, result.Method)
		})
	}
}

func TestWhatEndpointsAndDeliveriesAnswerIsRead(t *testing.T) {
	t.Parallel()
	c := clientAt(t, fake(t, map[string]string{
		"POST /v1/deliveries:bulk":                 `{"count":2,"complete":false,"problems":[{"id":"msg_3","code":"conflict","detail":"tried too often"}]}`,
		"POST /v1/callback-endpoints/end_1/test":   `{"delivered":false,"status":500,"error":"the receiver answered 500","class":"status","duration_ms":3}`,
		"POST /v1/callback-endpoints/end_1/verify": `{"id":"end_1","state":"active","verification":{"state":"verified","how":"challenge"}}`,
	}))
	many, err := c.RedeliverAll(t.Context(), client.DeliveryFilter{Endpoint: "end_1", Since: time.Unix(0, 0), States: []string{"exhausted"}})
	require.NoError(t, err)
	require.Equal(t, 2, many.Count)
	require.False(t, many.Complete)
	require.Equal(t, client.ErrConflict, many.Problems[0].Code)
	tested, err := c.TestEndpoint(t.Context(), "end_1", "")
	require.NoError(t, err)
	require.False(t, tested.Delivered)
	require.Equal(t, 500, tested.Status)
	verified, err := c.VerifyEndpoint(t.Context(), "end_1")
	require.NoError(t, err)
	require.Equal(t, "verified", verified.Verification.State)
	_, err = c.RedeliverAll(t.Context(), client.DeliveryFilter{Ticket: "none"})
	require.NoError(t, err)
}

// fake answers requests as the contract has it.
func fake(t *testing.T, answers map[string]string) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.Method+" "+r.URL.Path]
		body, err := io.ReadAll(r.Body)
		if !known || err != nil || (len(body) > 0 && !json.Valid(body)) {
			problem(w, 404, "not_found")
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAResultInACallbackIsReadAsItsUpstreamSentIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	id := submit(t, c, deletion).ID
	w.approve(t, id)
	w.made(t, id, reply{status: 200, mediaType: "application/octet-stream", body: "\x00\xff"})
	d := client.ResultDocument{BodyBase64: base64.StdEncoding.EncodeToString([]byte("\x00\xff"))}
	result, err := c.Result(t.Context(), id)
	require.NoError(t, err)
	d.Digest = result.Digest
	body, exact := d.Bytes()
	require.True(t, exact)
	require.Equal(t, "\x00\xff", string(body))
	d.Digest = "00"
	_, exact = d.Bytes()
	require.False(t, exact)
}
