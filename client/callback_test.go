package client_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"countersign/client"
)

const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of the published test vector
	vectorPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody   = `{"test": 2432232314}`
	vectorTime   = 1614265330
	vectorSigned = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func at(seconds int64) func() time.Time { return func() time.Time { return time.Unix(seconds, 0) } }

func signedHeader(id string, stamp int64, signature string) http.Header {
	return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(stamp, 10)}, "Webhook-Signature": {signature}}
}

func verifier(t *testing.T, c client.CallbackConfig) *client.Verifier {
	t.Helper()
	if c.Now == nil {
		c.Now = at(vectorTime)
	}
	v, err := client.NewVerifier(c)
	require.NoError(t, err)
	return v
}

func TestTheSharedVectorsVerify(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/standard-webhooks.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Secret, ID, Body, Expected string
		PublicKey                        string `json:"public_key"`
		Timestamp                        int64
	}
	require.NoError(t, json.Unmarshal(raw, &vectors))
	n := 0
	for _, v := range vectors {
		if v.ID == "" {
			continue // of other standards, which callbacks do not use
		}
		n++
		c := client.CallbackConfig{Now: at(v.Timestamp)}
		if v.PublicKey != "" {
			c.PublicKeys, c.AnyCaller = []string{v.PublicKey}, true
		} else {
			c.Secrets = []client.Secret{client.Secret(v.Secret)}
		}
		header := signedHeader(v.ID, v.Timestamp, v.Expected)
		require.NoError(t, verifier(t, c).Verify(t.Context(), header, []byte(v.Body)), v.Name)
		for i := range len(v.Body) {
			tampered := []byte(v.Body)
			tampered[i] ^= 1
			require.ErrorIs(t, verifier(t, c).Verify(t.Context(), header, tampered), client.ErrCallbackSignature, v.Name)
		}
	}
	require.Equal(t, 2, n, "v1 and v1a")
}

func TestVerifyAcceptsAndRefuses(t *testing.T) {
	t.Parallel()
	other := client.Secret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	for name, row := range map[string]struct {
		secrets []client.Secret
		change  func(h http.Header)
		late    int64
		want    error
	}{
		"one signature":                           {},
		"a secret without the prefix":             {secrets: []client.Secret{client.Secret(strings.TrimPrefix(vectorSecret, "whsec_"))}},
		"while the secret is rotated":             {secrets: []client.Secret{other, vectorSecret}},
		"several signatures, one of them unknown": {change: set("Webhook-Signature", "v2,AAAA v1,AAAA v1a,AAAA "+vectorSigned)},
		"300 s late":                              {late: 300},
		"300 s early":                             {late: -300},
		"301 s late":                              {late: 301, want: client.ErrCallbackTime},
		"301 s early":                             {late: -301, want: client.ErrCallbackTime},
		"another secret":                          {secrets: []client.Secret{other}, want: client.ErrCallbackSignature},
		"no id":                                   {change: unset("Webhook-Id"), want: client.ErrCallbackHeaders},
		"no timestamp":                            {change: unset("Webhook-Timestamp"), want: client.ErrCallbackHeaders},
		"no signature":                            {change: unset("Webhook-Signature"), want: client.ErrCallbackHeaders},
		"two ids":                                 {change: func(h http.Header) { h.Add("Webhook-Id", "b") }, want: client.ErrCallbackHeaders},
		"two signatures in two lines":             {change: func(h http.Header) { h.Add("Webhook-Signature", "v1,AAAA") }, want: client.ErrCallbackHeaders},
		"an id with a dot":                        {change: set("Webhook-Id", "msg.x"), want: client.ErrCallbackHeaders},
		"another id":                              {change: set("Webhook-Id", "msg_x"), want: client.ErrCallbackSignature},
		"another time":                            {change: set("Webhook-Timestamp", strconv.Itoa(vectorTime+1)), want: client.ErrCallbackSignature},
		"a timestamp with a plus":                 {change: set("Webhook-Timestamp", "+1614265330"), want: client.ErrCallbackHeaders},
		"a timestamp that is no number":           {change: set("Webhook-Timestamp", "now"), want: client.ErrCallbackHeaders},
		"a bare v1,":                              {change: set("Webhook-Signature", "v1,"), want: client.ErrCallbackSignature},
		"a signature without version":             {change: set("Webhook-Signature", vectorSigned[3:]), want: client.ErrCallbackSignature},
		"the signature under another version":     {change: set("Webhook-Signature", "v1a"+vectorSigned[2:]), want: client.ErrCallbackSignature},
		"a blank":                                 {change: set("Webhook-Signature", " "), want: client.ErrCallbackHeaders},
		"a flood of signatures":                   {change: set("Webhook-Signature", strings.Repeat("v1,AAAA ", 2000)+vectorSigned), want: client.ErrCallbackHeaders},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if row.secrets == nil {
				row.secrets = []client.Secret{vectorSecret}
			}
			h := signedHeader(vectorID, vectorTime, vectorSigned)
			if row.change != nil {
				row.change(h)
			}
			v := verifier(t, client.CallbackConfig{Secrets: row.secrets, Now: at(vectorTime + row.late)})
			require.ErrorIs(t, v.Verify(t.Context(), h, []byte(vectorBody)), row.want)
		})
	}
}

func set(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
func unset(name string) func(http.Header)      { return func(h http.Header) { h.Del(name) } }

func TestAConfigurationThatVerifiesNothingIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]client.CallbackConfig{
		"nothing":           {},
		"an empty secret":   {Secrets: []client.Secret{""}},
		"a short secret":    {Secrets: []client.Secret{"whsec_Y2FuYXJ5"}},
		"no base64":         {Secrets: []client.Secret{"whsec_canary!"}},
		"a private key":     {PublicKeys: []string{"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="}},
		"a jwks over http":  {JWKS: "http://countersign.example.com/.well-known/jwks.json"},
		"a jwks of nowhere": {JWKS: "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client.VerifyCallback(c)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "canary")
			require.NotContains(t, err.Error(), "Y2FuYXJ5")
		})
	}
}

// receiver is a handler behind the middleware.
func receiver(t *testing.T, c client.CallbackConfig, handler http.HandlerFunc) http.Handler {
	t.Helper()
	c.Secrets = []client.Secret{vectorSecret}
	if c.Now == nil {
		c.Now = at(vectorTime)
	}
	verify, err := client.VerifyCallback(c)
	require.NoError(t, err)
	return verify(handler)
}

// post delivers a body as Countersign does, signed by a library that is not ours.
func post(t *testing.T, h http.Handler, id, body string) *httptest.ResponseRecorder {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(vectorSecret)
	require.NoError(t, err)
	signature, err := signer.Sign(id, time.Unix(vectorTime, 0), []byte(body))
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader(body))
	r.Header = signedHeader(id, vectorTime, signature)
	r.Header.Set("Countersign-Attempt", "3")
	r.Header.Set("Countersign-Trigger", "manual")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const succeeded = `{"type":"ticket.succeeded","timestamp":"2026-03-02T09:12:31.3Z","new":1,"data":{"ticket_id":"tkt_1","state":"succeeded",
 "done":true,"sequence":5,"version":9,"metadata":{"case":"991"},"links":{},"error":null,
 "result":{"status":200,"headers":[],"body":"plain text","size":10,"digest":"7a12a562a0dd0cf85ec78d9b36f3d8e6ac9c0a3b1d0e0f0a0b0c0d0e0f0a0b0c"},"result_omitted":null}}`

func TestAHandlerGetsTheEventAndTheIntactBody(t *testing.T) {
	t.Parallel()
	var calls int
	h := receiver(t, client.CallbackConfig{}, func(w http.ResponseWriter, r *http.Request) {
		calls++
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != succeeded {
			t.Errorf("the body is %q, %v", body, err)
		}
		e, ok := client.EventFrom(r.Context())
		if !ok || e.Type != "ticket.succeeded" || e.Data.TicketID != "tkt_1" || e.Data.Version != 9 || !e.Data.Done ||
			e.Data.Metadata["case"] != "991" || e.ID != "msg_1" || e.Attempt != 3 || !e.Manual {
			t.Errorf("the event is %+v", e)
		}
		if text, _ := e.Data.Result.Bytes(); string(text) != "plain text" {
			t.Errorf("the result is %q", text)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	require.Equal(t, http.StatusAccepted, post(t, h, "msg_1", succeeded).Code)
	require.Equal(t, 1, calls)
	_, ok := client.EventFrom(t.Context())
	require.False(t, ok, "elsewhere there is none")
}

func TestWhatDoesNotPassNeverReachesTheHandler(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(r *http.Request)
		want   int
	}{
		"no headers":      {func(r *http.Request) { r.Header = http.Header{} }, 400},
		"wrong signature": {func(r *http.Request) { r.Header.Set("Webhook-Signature", "v1,AAAA") }, 401},
		"old":             {func(r *http.Request) { r.Header.Set("Webhook-Timestamp", "1614260000") }, 401},
		"too large":       {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 513<<10))) }, 413},
		"GET":             {func(r *http.Request) { r.Method = http.MethodGet }, 405},
		"OPTIONS":         {func(r *http.Request) { r.Method = http.MethodOptions }, 405},
		"broken off": {func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), failing{}))
		}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told error
			h := receiver(t, client.CallbackConfig{Refused: func(_ *http.Request, why error) { told = why }},
				func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader(vectorBody))
			r.Header = signedHeader(vectorID, vectorTime, vectorSigned)
			row.change(r)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, row.want, w.Code)
			require.Error(t, told)
		})
	}
	h := receiver(t, client.CallbackConfig{}, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
	require.Equal(t, 400, post(t, h, "msg_1", `{"no":"type"}`).Code)
	require.Equal(t, 400, post(t, h, "msg_1", `no json`).Code)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off") }

func TestAChallengeIsAnsweredOnlyWhenItIsSigned(t *testing.T) {
	t.Parallel()
	h := receiver(t, client.CallbackConfig{}, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
	w := post(t, h, "msg_1", `{"type":"endpoint.verification","timestamp":"2026-03-02T09:12:31.3Z","data":{"challenge":"c-123"}}`)
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `{"challenge":"c-123"}`, w.Body.String())
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader(`{"type":"endpoint.verification","data":{"challenge":"c-123"}}`))
	r.Header = signedHeader("msg_1", vectorTime, "v1,AAAA")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 401, w.Code)
	require.NotContains(t, w.Body.String(), "c-123")
}

func TestTheHandshakeIsAnsweredForTheConfiguredOriginOnly(t *testing.T) {
	t.Parallel()
	h := receiver(t, client.CallbackConfig{AllowOrigin: "countersign.example.com"}, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
	for origin, want := range map[string]int{"countersign.example.com": 200, "evil.example.com": 405, "": 405} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/hook", nil)
		r.Header.Set("Webhook-Request-Origin", origin)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, origin)
		if want == 200 {
			require.Equal(t, origin, w.Header().Get("Webhook-Allowed-Origin"))
		}
	}
}

func TestAnEventThatWasTakenIsNotHandledAgainAndOneThatFailedIs(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	status := http.StatusInternalServerError
	h := receiver(t, client.CallbackConfig{Seen: client.SeenInMemory(2)}, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(status)
	})
	require.Equal(t, 500, post(t, h, "msg_1", succeeded).Code)
	status = http.StatusNoContent
	require.Equal(t, 204, post(t, h, "msg_1", succeeded).Code)
	require.EqualValues(t, 2, calls.Load(), "what failed comes again")
	require.Equal(t, 204, post(t, h, "msg_1", succeeded).Code)
	require.EqualValues(t, 2, calls.Load(), "what was taken does not")
	post(t, h, "msg_2", succeeded)
	post(t, h, "msg_3", succeeded)
	require.EqualValues(t, 4, calls.Load())
	post(t, h, "msg_1", succeeded)
	require.EqualValues(t, 5, calls.Load(), "only the last two are kept")
}

func TestPublicKeysAreReadFromAJWKSAndNotForEveryForgery(t *testing.T) {
	t.Parallel()
	_, old, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, fresh, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	var reads atomic.Int64
	var published, down atomic.Value
	published.Store(jwksOf(old))
	down.Store(false)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		if down.Load() == true {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, published.Load().(string)) //nolint:forcetypeassert // a string was stored
	}))
	t.Cleanup(server.Close)
	var now atomic.Int64
	now.Store(vectorTime)
	v := verifier(t, client.CallbackConfig{JWKS: server.URL, AnyCaller: true, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	check := func(key ed25519.PrivateKey) error {
		content := fmt.Sprintf("msg_1.%d.%s", now.Load(), vectorBody)
		header := signedHeader("msg_1", now.Load(), "v1,AAAA v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(content))))
		return v.Verify(t.Context(), header, []byte(vectorBody))
	}
	require.NoError(t, check(old))
	require.NoError(t, check(old))
	require.EqualValues(t, 1, reads.Load(), "they are kept")
	for range 10 {
		require.ErrorIs(t, check(fresh), client.ErrCallbackSignature)
	}
	require.EqualValues(t, 1, reads.Load(), "not within a minute")
	published.Store(jwksOf(fresh, old))
	now.Add(61)
	require.NoError(t, check(fresh), "a new key is found")
	require.NoError(t, check(old))
	require.EqualValues(t, 2, reads.Load())
	published.Store(jwksOf(fresh))
	now.Add(3601)
	require.ErrorIs(t, check(old), client.ErrCallbackSignature, "a key that is withdrawn is out after an hour")
	down.Store(true)
	now.Add(3601)
	require.ErrorIs(t, check(fresh), client.ErrCallbackKeys, "nobody passes on keys that are too old")
	require.ErrorIs(t, v.Verify(t.Context(), signedHeader("msg_1", now.Load(), "v1,AAAA"), nil), client.ErrCallbackSignature)
}

func jwksOf(keys ...ed25519.PrivateKey) string {
	set := []map[string]string{{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "OKP", "crv": "Ed25519", "x": "short"}}
	for _, k := range keys {
		public, _ := k.Public().(ed25519.PublicKey)
		set = append(set, map[string]string{"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(public)})
	}
	raw, _ := json.Marshal(map[string]any{"keys": set}) // maps of strings always marshal
	return string(raw)
}

func TestAnEventOfAnotherCallerPassesByNoKeyThatSignsForAll(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	published := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, jwksOf(private))
	}))
	t.Cleanup(published.Close)
	keys := []string{"whpk_" + base64.StdEncoding.EncodeToString(public)}
	for name, c := range map[string]client.CallbackConfig{
		"a public key": {PublicKeys: keys}, "a jwks": {JWKS: published.URL}, "a secret as well": {PublicKeys: keys, Secrets: []client.Secret{vectorSecret}},
	} {
		_, err := client.NewVerifier(c)
		require.ErrorContains(t, err, "Caller", "%s, and nobody to be", name)
		verify := func(body string, all bool) error {
			c.Caller, c.AnyCaller = "payroll", false
			if all {
				c.Caller, c.AnyCaller = "", true
			}
			signature := ed25519.Sign(private, fmt.Appendf(nil, "msg_1.%d.%s", vectorTime, body))
			return verifier(t, c).Verify(t.Context(), signedHeader("msg_1", vectorTime, "v1a,"+base64.StdEncoding.EncodeToString(signature)), []byte(body))
		}
		require.NoError(t, verify(`{"type":"ticket.succeeded","data":{"caller":"payroll"}}`, false), name)
		for _, body := range []string{
			`{"type":"ticket.succeeded","data":{"caller":"mallory","metadata":{"caller":"payroll"}}}`,
			`{"type":"ticket.succeeded","data":{}}`, `{"type":"ticket.succeeded","caller":"payroll"}`, `not JSON`,
		} {
			require.ErrorIs(t, verify(body, false), client.ErrCallbackCaller, "%s by %s", body, name)
			require.NoError(t, verify(body, true), "whoever it is for, by %s", name)
		}
	}
	h := receiver(t, client.CallbackConfig{Caller: "payroll"}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	require.Equal(t, http.StatusNoContent, post(t, h, "msg_1", succeeded).Code, "by a secret, which is the caller's alone")
}
