package egress_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

const (
	apiKey   = `k3y/with+odd&chars="<end`
	password = "correct horse battery"
)

// encodings an upstream may echo a secret in.
func encodings(s string) map[string]string {
	inJSON, _ := json.Marshal(s)
	return map[string]string{
		"raw":         s,
		"base64":      base64.StdEncoding.EncodeToString([]byte(s)),
		"base64url":   base64.RawURLEncoding.EncodeToString([]byte(s)),
		"query":       url.QueryEscape(s),
		"path":        url.PathEscape(s),
		"query lower": regexp.MustCompile("%..").ReplaceAllStringFunc(url.QueryEscape(s), strings.ToLower),
		"hex":         hex.EncodeToString([]byte(s)),
		"HEX":         strings.ToUpper(hex.EncodeToString([]byte(s))),
		"json":        string(inJSON),
		"html":        html.EscapeString(s),
		"in base64 1": base64.StdEncoding.EncodeToString([]byte("x" + s + "tail")),
		"in base64 2": base64.StdEncoding.EncodeToString([]byte("xy" + s + "tail")),
		"in base64 3": base64.URLEncoding.EncodeToString([]byte("xyz" + s + "tail")),
	}
}

func TestCredentialsNeverLeaveTheFunction(t *testing.T) {
	t.Parallel()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+password))
	for _, credential := range []struct{ name, value, secret string }{
		{"X-Api-Key", apiKey, apiKey},
		{"Authorization", canary, canary},
		{"Authorization", canary, strings.TrimPrefix(canary, "Bearer ")},
		{"Authorization", basic, basic},
		{"Authorization", basic, strings.TrimPrefix(basic, "Basic ")},
		{"Authorization", basic, "user:" + password},
		{"Authorization", basic, password},
	} {
		for name, text := range encodings(credential.secret) {
			t.Run(credential.secret+" as "+name, func(t *testing.T) {
				t.Parallel()
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "/"+text)
					w.Header().Set("X-Request-Id", "before "+text+" after")
					w.WriteHeader(http.StatusTeapot)
					_, _ = io.WriteString(w, "before "+text+" between "+text+text+" after")
				}))
				t.Cleanup(server.Close)
				upstream := egress.Upstream{Name: "echo", BaseURL: mustURL(server.URL), Credentials: []egress.Credential{{Name: credential.name, Value: egress.NewSecret(credential.value)}}}
				outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
				require.Equal(t, egress.Answered, outcome.Kind)
				require.True(t, outcome.Scrubbed)
				seen := fmt.Sprintf("%s %+v", outcome.Body, outcome)
				for other, leak := range encodings(credential.secret) {
					if !strings.HasPrefix(other, "in base64") {
						require.NotContains(t, seen, leak, other)
					}
				}
				require.Contains(t, string(outcome.Body), "[redacted]")
				require.True(t, strings.HasPrefix(string(outcome.Body), "before ") && strings.HasSuffix(string(outcome.Body), " after"), "%s", outcome.Body)
				require.NotContains(t, string(outcome.Body), text)
				require.EqualValues(t, len("before  between  after")+3*len(text), outcome.Size, "of what came")
			})
		}
	}
}

func TestACredentialAcrossTheCutIsTakenOutWhole(t *testing.T) {
	t.Parallel()
	const limit = 64
	for offset := limit - len(canary) - 2; offset <= limit+1; offset++ {
		body := strings.Repeat("x", offset) + canary + strings.Repeat("y", 100)
		server := serveRaw(t, answer("HTTP/1.1 200 OK\r\n\r\n"+body))
		upstream := egress.Upstream{BaseURL: server.url(""), MaxResponseBytes: limit, Credentials: canaryCredentials()}
		outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
		require.Equal(t, egress.ErrorTooLarge, outcome.ErrorClass)
		require.LessOrEqual(t, len(outcome.Body), limit)
		require.NotContains(t, string(outcome.Body), "B", "offset %d: %s", offset, outcome.Body)
		require.Equal(t, egress.ContentDigest([]byte(body[:limit])), outcome.Digest)
	}
}

func TestAnAnswerBrokenInsideACredentialKeepsNoneOfIt(t *testing.T) {
	t.Parallel()
	for n := 8; n < len(canary); n++ {
		server := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nbefore "+canary[:n]))
		outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, get("/"), nil)
		require.Equal(t, egress.ErrorIncomplete, outcome.ErrorClass)
		require.Equal(t, "before [redacted]", string(outcome.Body))
		require.True(t, outcome.Scrubbed)
	}
}

func TestManyShortCredentialsDoNotBlowUpTheBody(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("abcd", limit/4)))
	upstream := egress.Upstream{BaseURL: server.url(""), Credentials: []egress.Credential{{Name: "X-Key", Value: egress.NewSecret("abcd")}}}
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
	require.Len(t, outcome.Body, limit)
	require.NotContains(t, string(outcome.Body), "abcd")
	require.True(t, outcome.Truncated)
}

func TestOrdinaryAnswersAreLeftAlone(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("nothing to see here, Bearer of news; ", 1000)
	server := serveRaw(t, func(s *rawServer, conn net.Conn, r *bufio.Reader) { answer("HTTP/1.1 200 OK\r\n\r\n"+body)(s, conn, r) })
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, get("/"), nil)
	require.Equal(t, body, string(outcome.Body))
	require.False(t, outcome.Scrubbed)
	require.NoError(t, outcome.Err)
}
