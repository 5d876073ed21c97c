package egress_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

const nonce = "n0nce-0123456789_abcdef"

func challenge(tb testing.TB, target string) egress.ChallengeRequest {
	tb.Helper()
	return egress.ChallengeRequest{URL: target, ID: vectorID, Nonce: nonce, Secrets: []egress.Secret{secret(tb, vectorSecret)}, Origin: "countersign.example", Rate: 120}
}

// receiver answers POST and OPTIONS as told.
func receiver(tb testing.TB, post, options http.HandlerFunc) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			options(w, r)
			return
		}
		post(w, r)
	}))
	tb.Cleanup(server.Close)
	return server.URL + "/hook"
}

func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func echoes(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

func TestOnlyTheNonceOrTheHandshakeIsConsent(t *testing.T) {
	t.Parallel()
	inJSON := `{"challenge":"` + nonce + `"}`
	allow := func(headers ...string) http.HandlerFunc { return says(200, "", headers...) }
	for name, c := range map[string]struct {
		post, options http.HandlerFunc
		method        egress.ChallengeMethod
		rate          int
		class         string
	}{
		"the nonce as text":              {says(200, nonce+"\n"), nil, egress.ByChallenge, 0, ""},
		"the nonce in JSON":              {says(201, inJSON, "Content-Type", "application/json"), nil, egress.ByChallenge, 0, ""},
		"the nonce beside other things":  {says(200, `{"ok":true,"challenge":"`+nonce+`"}`), nil, egress.ByChallenge, 0, ""},
		"a status alone":                 {says(200, ""), nil, "", 0, egress.ErrorConsent},
		"another nonce":                  {says(200, strings.Replace(inJSON, "0", "1", 1)), nil, "", 0, egress.ErrorConsent},
		"a part of the nonce":            {says(200, nonce[:10]), nil, "", 0, egress.ErrorConsent},
		"the nonce among other text":     {says(200, "ok "+nonce), nil, "", 0, egress.ErrorConsent},
		"an echo of the event":           {echoes, echoes, "", 0, egress.ErrorConsent},
		"the nonce with a failure":       {says(500, inJSON), nil, "", 0, egress.ErrorStatus},
		"the nonce with a redirect":      {says(302, inJSON, "Location", "/elsewhere"), nil, "", 0, egress.ErrorStatus},
		"the nonce behind 64 KiB":        {says(200, strings.Repeat(" ", 64<<10)+nonce), nil, "", 0, egress.ErrorConsent},
		"our origin":                     {says(405, ""), allow("WebHook-Allowed-Origin", "countersign.example", "WebHook-Allowed-Rate", "120"), egress.ByCloudEvents, 120, ""},
		"our origin in capitals":         {says(405, ""), allow("WebHook-Allowed-Origin", "Countersign.Example"), egress.ByCloudEvents, 0, ""},
		"any origin at any rate":         {says(200, "ok"), allow("WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "*"), egress.ByCloudEvents, 0, ""},
		"a rate beyond all bounds":       {says(405, ""), allow("WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "2000000000"), egress.ByCloudEvents, 1_000_000, ""},
		"a rate that is none":            {says(405, ""), allow("WebHook-Allowed-Origin", "*", "WebHook-Allowed-Rate", "-5"), egress.ByCloudEvents, 0, ""},
		"another origin":                 {says(405, ""), allow("WebHook-Allowed-Origin", "evil.example"), "", 0, egress.ErrorStatus},
		"an origin that begins as ours":  {says(405, ""), allow("WebHook-Allowed-Origin", "countersign.example.evil.test"), "", 0, egress.ErrorStatus},
		"a list of origins":              {says(405, ""), allow("WebHook-Allowed-Origin", "a.example, countersign.example"), "", 0, egress.ErrorStatus},
		"an OPTIONS without the header":  {says(405, ""), allow("Access-Control-Allow-Origin", "*"), "", 0, egress.ErrorStatus},
		"our origin with a failure":      {says(405, ""), says(403, "", "WebHook-Allowed-Origin", "*"), "", 0, egress.ErrorStatus},
		"our origin with a redirect":     {says(405, ""), says(307, "", "WebHook-Allowed-Origin", "*", "Location", "/x"), "", 0, egress.ErrorStatus},
		"the header in answer to a POST": {says(200, "", "WebHook-Allowed-Origin", "*"), says(405, ""), "", 0, egress.ErrorConsent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.options == nil {
				c.options = says(405, "")
			}
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
			result := deliverer.Challenge(t.Context(), challenge(t, receiver(t, c.post, c.options)))
			require.Equal(t, c.method != "", result.Verified)
			require.Equal(t, []any{c.method, c.rate, c.class}, []any{result.Method, result.AllowedRate, result.ErrorClass})
			require.Equal(t, result.Verified, result.Class == egress.Delivered)
			require.Equal(t, result.Verified, result.Err == "")
			require.Positive(t, result.Duration)
		})
	}
}

func TestAChallengeIsASignedEvent(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	c := challenge(t, server.url("/hook").String())
	c.Headers = []egress.Credential{{Name: "Authorization", Value: egress.NewSecret(canary)}}
	result := deliverer.Challenge(t.Context(), c)
	require.False(t, result.Verified)
	server.mu.Lock()
	defer server.mu.Unlock()
	require.Len(t, server.requests, 2)
	post, options := server.requests[0], server.requests[1]

	require.Equal(t, "POST /hook HTTP/1.1", post.Line)
	header := http.Header{}
	for _, h := range post.Headers {
		name, value, _ := strings.Cut(h, ": ")
		header.Add(name, value)
	}
	require.NoError(t, egress.Verify(c.Secrets, header, []byte(post.Body), time.Unix(vectorTime, 0), 0))
	require.Equal(t, canary, header.Get("Authorization"))
	var event map[string]any
	require.NoError(t, json.Unmarshal([]byte(post.Body), &event))
	require.Equal(t, "endpoint.verification", event["type"])
	require.Equal(t, map[string]any{"challenge": nonce}, event["data"])
	_, err := time.Parse(time.RFC3339Nano, fmt.Sprint(event["timestamp"]))
	require.NoError(t, err)

	require.Equal(t, "OPTIONS /hook HTTP/1.1", options.Line)
	require.Equal(t, "countersign.example", options.header("WebHook-Request-Origin"))
	require.Equal(t, "120", options.header("WebHook-Request-Rate"))
	require.Equal(t, canary, options.header("Authorization"))
	require.Empty(t, options.header(egress.HeaderSignature))
	require.Empty(t, options.Body)
}

func TestWhatCannotBeAChallengeIsNotSent(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	for name, change := range map[string]func(*egress.ChallengeRequest){
		"a short nonce":         func(c *egress.ChallengeRequest) { c.Nonce = "short" },
		"no nonce":              func(c *egress.ChallengeRequest) { c.Nonce = "" },
		"a nonce with quotes":   func(c *egress.ChallengeRequest) { c.Nonce = strings.Repeat(`"`, 20) },
		"a long nonce":          func(c *egress.ChallengeRequest) { c.Nonce = strings.Repeat("n", 129) },
		"no secrets":            func(c *egress.ChallengeRequest) { c.Secrets = nil },
		"an origin with a line": func(c *egress.ChallengeRequest) { c.Origin = "a\r\nX: y" },
		"a negative rate":       func(c *egress.ChallengeRequest) { c.Rate = -1 },
		"a header of ours": func(c *egress.ChallengeRequest) {
			c.Headers = []egress.Credential{{Name: "Webhook-Id", Value: egress.NewSecret("x")}}
		},
	} {
		c := challenge(t, server.url("/").String())
		change(&c)
		result := deliverer.Challenge(t.Context(), c)
		require.False(t, result.Verified, name)
		require.Equal(t, egress.ErrorInvalid, result.ErrorClass, name)
	}
	require.Zero(t, server.conns.Load())
}

func TestAChallengeWithoutAnAnswerIsNotFollowedByAHandshake(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("")) // reads and hangs up, twice: the first time it may have been a stale connection
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	result := deliverer.Challenge(t.Context(), challenge(t, server.url("/").String()))
	require.Equal(t, egress.ErrorReset, result.ErrorClass)
	require.EqualValues(t, 2, server.effects.Load())
	require.Equal(t, "POST / HTTP/1.1", server.last(t).Line)
}
