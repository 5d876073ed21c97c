package slack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress/egresstest"
	"countersign/slack"
	"countersign/slack/emulator"
)

const canary = "xoxb-canary-4711"

// answering returns a client whose every call gets the same answer.
func answering(t *testing.T, handler http.HandlerFunc) *slack.Client {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	client, err := slack.New(slack.Config{Token: canary, APIURL: srv.URL + "/api", HTTP: srv.Client()})
	require.NoError(t, err)
	return client
}

func saying(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// calls make each call of the API once.
func calls(t *testing.T, c *slack.Client) map[string]error {
	t.Helper()
	v := pendingView(t, nil)
	_, posted := c.Post(t.Context(), channel, slack.Card(v), slack.PostOptions{})
	_, asked := c.Auth(t.Context())
	all := map[string]error{
		"chat.postMessage": posted, "auth.test": asked,
		"chat.update": c.Update(t.Context(), slack.Ref{Channel: channel, TS: "1.1"}, slack.Card(v)),
		"views.open":  c.OpenView(t.Context(), "1.2.3", slack.DenyModal(v)),
	}
	for method, f := range methods(v) {
		all[method] = f(t.Context(), c)
	}
	return all
}

// methods are the calls that read or that may be made twice.
func methods(v slack.View) map[string]func(context.Context, *slack.Client) error {
	drop := func(_ any, err error) error { return err }
	return map[string]func(context.Context, *slack.Client) error{
		"views.update": func(ctx context.Context, c *slack.Client) error {
			return c.UpdateView(ctx, "V1", "1.h", slack.DenyModal(v))
		},
		"views.publish": func(ctx context.Context, c *slack.Client) error {
			return c.PublishHome(ctx, "U0ANA", slack.HomeView{Type: "home"})
		},
		"users.info":          func(ctx context.Context, c *slack.Client) error { return drop(c.UserInfo(ctx, "U0ANA")) },
		"users.lookupByEmail": func(ctx context.Context, c *slack.Client) error { return drop(c.UserByEmail(ctx, "ana@example.com")) },
		"usergroups.list":     func(ctx context.Context, c *slack.Client) error { return drop(c.UserGroups(ctx)) },
		"conversations.info":  func(ctx context.Context, c *slack.Client) error { return drop(c.Conversation(ctx, channel)) },
		"conversations.list":  func(ctx context.Context, c *slack.Client) error { return drop(c.Conversations(ctx)) },
		"conversations.open":  func(ctx context.Context, c *slack.Client) error { return drop(c.OpenDirect(ctx, "U0ANA")) },
		"chat.getPermalink": func(ctx context.Context, c *slack.Client) error {
			return drop(c.Permalink(ctx, slack.Ref{Channel: channel, TS: "1.1"}))
		},
	}
}

func TestErrorsAreSortedByWhatTheyMeanForTheCaller(t *testing.T) {
	t.Parallel()
	word := func(w string) http.HandlerFunc { return saying(200, `{"ok":false,"error":"`+w+`"}`) }
	for _, c := range []struct {
		name         string
		answer       http.HandlerFunc
		post, others slack.Class
		code         string
	}{
		{"unknown channel", word("channel_not_found"), slack.Permanent, slack.Permanent, "channel_not_found"},
		{"not in channel", word("not_in_channel"), slack.Permanent, slack.Permanent, "not_in_channel"},
		{"archived", word("is_archived"), slack.Permanent, slack.Permanent, "is_archived"},
		{"restricted", word("restricted_action_thread_locked"), slack.Permanent, slack.Permanent, "restricted_action_thread_locked"},
		{"edit window", word("edit_window_closed"), slack.Permanent, slack.Permanent, "edit_window_closed"},
		{"expired trigger", word("expired_trigger_id"), slack.Permanent, slack.Permanent, "expired_trigger_id"},
		{"unheard of", word("brand_new_error"), slack.Permanent, slack.Permanent, "brand_new_error"},
		{"revoked", word("token_revoked"), slack.App, slack.App, "token_revoked"},
		{"inactive", word("account_inactive"), slack.App, slack.App, "account_inactive"},
		{"bad token", word("invalid_auth"), slack.App, slack.App, "invalid_auth"},
		{"scope", word("missing_scope"), slack.App, slack.App, "missing_scope"},
		{"internal", word("internal_error"), slack.Ambiguous, slack.Retryable, "internal_error"},
		{"fatal", word("fatal_error"), slack.Ambiguous, slack.Retryable, "fatal_error"},
		{"duplicate", word("duplicate_message"), slack.Ambiguous, slack.Retryable, "duplicate_message"},
		{"slow Slack", word("request_timeout"), slack.Ambiguous, slack.Retryable, "request_timeout"},
		{"update failed", word("update_failed"), slack.Retryable, slack.Retryable, "update_failed"},
		{"limited in words", word("ratelimited"), slack.RateLimited, slack.RateLimited, "ratelimited"},
		{"limited", saying(429, `{"ok":false}`, "Retry-After", "7"), slack.RateLimited, slack.RateLimited, "ratelimited"},
		{"limited, no time", saying(429, `{"ok":false,"error":"message_limit_exceeded"}`), slack.RateLimited, slack.RateLimited, "http_429"},
		{"limited, odd time", saying(429, "", "Retry-After", "soon"), slack.RateLimited, slack.RateLimited, "ratelimited"},
		{"silent no", saying(200, `{"ok":false}`), slack.Ambiguous, slack.Retryable, "empty_answer"},
		{"empty object", saying(200, `{}`), slack.Ambiguous, slack.Retryable, "empty_answer"},
		{"HTML", saying(200, "<!doctype html><p>Maintenance"), slack.Ambiguous, slack.Retryable, "bad_answer"},
		{"a list", saying(200, "[]"), slack.Ambiguous, slack.Retryable, "bad_answer"},
		{"too long", saying(200, `{"ok":true,"x":"`+strings.Repeat("x", 8<<20)+`"}`), slack.Ambiguous, slack.Retryable, "bad_answer"},
		{"500", saying(500, "oops"), slack.Ambiguous, slack.Retryable, "http_500"},
		{"503 in HTML", saying(503, "<html>"), slack.Ambiguous, slack.Retryable, "http_503"},
		{"403 of a proxy", saying(403, "<html>"), slack.Retryable, slack.Retryable, "http_403"},
		{"302", saying(302, ""), slack.Retryable, slack.Retryable, "http_302"},
		{"dropped", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, slack.Ambiguous, slack.Retryable, "network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for method, err := range calls(t, answering(t, c.answer)) {
				var e *slack.Error
				require.ErrorAs(t, err, &e, method)
				want := c.others
				if method == "chat.postMessage" {
					want = c.post
				}
				require.Equal(t, want, e.Class, "%s: %v", method, err)
				require.Equal(t, c.code, e.Code, method)
				require.Equal(t, method, e.Method)
				require.Equal(t, e.Class == slack.RateLimited, e.RetryAfter > 0, method)
			}
		})
	}
}

func TestRetryAfterIsWhatSlackAskedForWithinReason(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "99999999": time.Hour, "0": time.Minute, "-3": time.Minute} {
		_, err := answering(t, saying(429, "", "Retry-After", header)).Auth(t.Context())
		var e *slack.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, want, e.RetryAfter, header)
	}
}

func TestWhatNeverLeftThisMachineMayBeSentAgain(t *testing.T) {
	t.Parallel()
	client, err := slack.New(slack.Config{Token: canary, APIURL: "http://" + egresstest.Refusing(t), HTTP: http.DefaultClient})
	require.NoError(t, err)
	for method, err := range calls(t, client) {
		var e *slack.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, slack.Retryable, e.Class, method)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client.Post(done, channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	var e *slack.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, slack.Retryable, e.Class)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEveryCallHasADeadline(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	client, err := slack.New(slack.Config{Token: canary, APIURL: srv.URL, HTTP: srv.Client(), Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	all := calls(t, client)
	all["response_url"] = client.Respond(t.Context(), srv.URL+"/actions/1", "x")
	for method, err := range all {
		var e *slack.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "timeout", e.Code, method)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestACallIsMadeOnceWhateverIsAnswered(t *testing.T) {
	t.Parallel()
	for _, answer := range []http.HandlerFunc{saying(500, ""), saying(429, "", "Retry-After", "1"), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }} {
		var mu sync.Mutex
		n := 0
		client := answering(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			n++
			mu.Unlock()
			answer(w, r)
		})
		_, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
		require.Error(t, err)
		mu.Lock()
		require.Equal(t, 1, n)
		mu.Unlock()
	}
}

// echo answers with all that it was sent, as a hostile or broken server might.
func echo(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		all := r.Header.Get("Authorization")
		answer, _ := json.Marshal(map[string]any{
			"ok": false, "error": all, "needed": all, "provided": all, "response_metadata": map[string]any{"messages": []string{all}},
		})
		w.Header().Set("Retry-After", all)
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}
}

func TestTheTokenIsInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log strings.Builder
	for _, answer := range []http.HandlerFunc{
		echo(200), echo(429), echo(500), echo(302), saying(200, canary), saying(200, `{"ok":false,"error":"x_`+canary+`"}`),
		saying(200, `{"ok":false,"error":"xoxb-canary-4711"}`), saying(200, `{"ok":"`+canary+`"}`),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		srv := httptest.NewServer(answer)
		client, err := slack.New(slack.Config{
			Token: canary, APIURL: srv.URL, HTTP: srv.Client(),
			Logger: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return log.Write(p)
			}), &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		require.NoError(t, err)
		all := calls(t, client)
		all["response_url"] = client.Respond(t.Context(), srv.URL+"/actions/1", "x")
		for method, err := range all {
			require.Error(t, err, method)
			for e := err; e != nil; e = errors.Unwrap(e) {
				require.NotContains(t, fmt.Sprintf("%v %+v %#v %q", e, e, e, e), "canary", method)
			}
		}
		require.NotContains(t, fmt.Sprintf("%v %+v", client, *client), "canary")
		srv.Close()
	}
	mu.Lock()
	require.NotContains(t, log.String(), "canary")
	require.Contains(t, log.String(), "slack call failed")
	mu.Unlock()
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestTheTokenTravelsInAHeaderAndNowhereElse(t *testing.T) {
	t.Parallel()
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer "+canary || strings.Contains(string(raw)+r.URL.String(), "canary") {
			http.Error(w, "token in the wrong place", http.StatusTeapot)
			return
		}
		_, _ = io.WriteString(w, everything(r, `"C1"`))
	})
	for method, err := range calls(t, client) {
		require.NoError(t, err, method)
	}
}

// everything is an answer with what each method wants to hear.
func everything(r *http.Request, posted string) string {
	where := `{"id":"C1","name":"x"}`
	if strings.Contains(r.URL.Path, "/chat.") {
		where = posted
	}
	return `{"ok":true,"channel":` + where + `,"ts":"1.1","team_id":"T1","user_id":"U1","permalink":"https://acme.slack.com/archives/C1/p11",
		"user":{"id":"U0ANA","profile":{"email":"ana@example.com"}},"usergroups":[],"channels":[],
		"message":{"blocks":[{"type":7}]},"view":{"blocks":"?"}}`
}

func TestACallSucceedsWhateverSlackRepeatsOfIt(t *testing.T) {
	t.Parallel()
	client := answering(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, everything(r, `"D1"`)) })
	for method, err := range calls(t, client) {
		require.NoError(t, err, method)
	}
}

func TestPostSendsItsOptionsAndUnfurlsNothing(t *testing.T) {
	t.Parallel()
	forms := make(chan url.Values, 1)
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		forms <- r.PostForm
		_, _ = io.WriteString(w, `{"ok":true,"channel":"D1","ts":"1.2"}`)
	})
	m := slack.Card(pendingView(t, nil))
	ref, err := client.Post(t.Context(), "#billing", m, slack.PostOptions{
		ThreadTS: "1.1", Broadcast: true, ClientMsgID: "c9a1", Metadata: &slack.Metadata{EventType: "card", Payload: map[string]string{"h": "x"}},
	})
	require.NoError(t, err)
	require.Equal(t, slack.Ref{Channel: "D1", TS: "1.2"}, ref)
	form := <-forms
	for name, want := range map[string]string{
		"channel": "#billing", "text": m.Text, "thread_ts": "1.1", "reply_broadcast": "true", "client_msg_id": "c9a1", "unfurl_links": "false",
		"unfurl_media": "false", "link_names": "", "parse": "", "token": "", "metadata": `{"event_type":"card","event_payload":{"h":"x"}}`,
	} {
		require.Equal(t, want, form.Get(name), name)
	}
}

func TestWhatCouldOnlyFailIsNotSent(t *testing.T) {
	t.Parallel()
	client := answering(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	good := slack.Card(pendingView(t, nil))
	_, tooMuch := client.Post(t.Context(), channel, good, slack.PostOptions{Metadata: &slack.Metadata{Payload: map[string]string{"x": strings.Repeat("x", 500)}}})
	_, bad := client.Post(t.Context(), channel, slack.Message{Text: "x"}, slack.PostOptions{})
	view := slack.DenyModal(pendingView(t, nil))
	for name, err := range map[string]error{
		"metadata": tooMuch, "no blocks": bad, "no trigger": client.OpenView(t.Context(), "", view),
		"update": client.Update(t.Context(), slack.Ref{Channel: channel, TS: "1.1"}, slack.Message{Blocks: good.Blocks}),
	} {
		var e *slack.Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, slack.Permanent, e.Class, name)
		require.Equal(t, "refused_here", e.Code, name)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, cfg := range []slack.Config{
		{HTTP: http.DefaultClient},
		{Token: canary},
		{Token: canary, HTTP: http.DefaultClient, APIURL: "slack.com/api"},
		{Token: canary, HTTP: http.DefaultClient, APIURL: "ftp://slack.com/api"},
	} {
		_, err := slack.New(cfg)
		require.Error(t, err)
	}
	_, err := slack.New(slack.Config{Token: canary, HTTP: http.DefaultClient})
	require.NoError(t, err)
}

// hosts records where a client would have gone.
type hosts struct {
	mu   sync.Mutex
	urls []string
}

func (h *hosts) Do(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.urls = append(h.urls, r.URL.String())
	if r.Header.Get("Authorization") != "" {
		h.urls = append(h.urls, "with a token")
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("ok")), Header: http.Header{}, Request: r}, nil
}

func TestRespondOnlyCallsSlackAndWithoutTheToken(t *testing.T) {
	t.Parallel()
	h := &hosts{}
	client, err := slack.New(slack.Config{Token: canary, APIURL: "http://127.0.0.1:8065/api/", HTTP: h, ResponseHosts: []string{"hooks.slack-gov.com"}})
	require.NoError(t, err)
	good := []string{
		"https://hooks.slack.com/actions/T1/2/abc", "https://HOOKS.slack.com/actions/T1/2/abc", "http://127.0.0.1:8065/actions/x",
		"https://hooks.slack-gov.com/actions/T1/2/abc",
	}
	for _, u := range good {
		require.NoError(t, client.Respond(t.Context(), u, "x"), u)
	}
	require.Len(t, h.urls, len(good))
	for _, u := range []string{
		"", "x", "//hooks.slack.com/x", "http://hooks.slack.com/x", "https://hooks.slack.com.evil.example/x", "https://evil.example/hooks.slack.com",
		"https://hooks.slack.com@evil.example/x", "https://u:p@hooks.slack.com/x", "https://hooks.slack.com:8443/x", "https://hooks.slack.com./x",
		"https://127.0.0.1:8065/x", "http://127.0.0.1:80/x", "http://127.0.0.1/x", "http://localhost:8065/x", "http://169.254.169.254/latest",
		"https://hooks.slack.com/x#f", "file:///etc/passwd", "https:hooks.slack.com/x", "https://evil.example\\@hooks.slack.com/x",
		"https://hooks.slack.com%2f@evil.example/", "https://ehooks.slack.com/x", "https://hooks.slack.com/" + strings.Repeat("x", 3000),
	} {
		err := client.Respond(t.Context(), u, "x")
		var e *slack.Error
		require.ErrorAs(t, err, &e, u)
		require.Equal(t, slack.Permanent, e.Class, u)
	}
	require.Len(t, h.urls, len(good))
}

func TestRespondSortsItsErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer http.HandlerFunc
		class  slack.Class
		code   string
	}{
		{saying(200, "ok"), "", ""},
		{saying(200, `{"ok":true}`), "", ""},
		{saying(404, "used_url"), slack.Permanent, "used_url"},
		{saying(404, `{"ok":false,"error":"expired_url"}`), slack.Permanent, "expired_url"},
		{saying(404, "<html>"), slack.Permanent, "unreadable_code"},
		{saying(429, "rate_limited"), slack.RateLimited, "http_429"},
		{saying(500, "server_error"), slack.Ambiguous, "http_500"},
		{saying(200, "<html>"), slack.Ambiguous, "bad_answer"},
		{saying(200, `{"ok":false}`), slack.Ambiguous, "bad_answer"},
	} {
		srv := httptest.NewServer(c.answer)
		client, err := slack.New(slack.Config{Token: canary, APIURL: srv.URL, HTTP: srv.Client()})
		require.NoError(t, err)
		err = client.Respond(t.Context(), srv.URL+"/actions/1", "x")
		srv.Close()
		if c.class == "" {
			require.NoError(t, err)
			continue
		}
		var e *slack.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, c.class, e.Class, err)
		require.Equal(t, c.code, e.Code)
		require.NotContains(t, err.Error(), "/actions/1")
	}
}

func TestAgainstTheEmulatorsFaults(t *testing.T) {
	t.Parallel()
	emu, client := workspace(t)
	m := slack.Card(pendingView(t, nil))
	for kind, want := range map[emulator.FaultKind]slack.Class{
		emulator.RateLimited: slack.RateLimited, emulator.ServerError: slack.Ambiguous, emulator.ErrorReply: slack.Ambiguous,
		emulator.SilentFailure: slack.Ambiguous, emulator.HTML: slack.Ambiguous, emulator.CommitThenDrop: slack.Ambiguous, emulator.Drop: slack.Ambiguous,
	} {
		emu.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: kind, RetryAfter: 3})
		before := len(emu.Messages(channel))
		_, err := client.Post(t.Context(), channel, m, slack.PostOptions{})
		var e *slack.Error
		require.ErrorAs(t, err, &e, kind)
		require.Equal(t, want, e.Class, kind)
		require.Equal(t, kind == emulator.CommitThenDrop, len(emu.Messages(channel)) > before, kind)
	}
	emu.SetAuthError("token_revoked")
	_, err := client.Auth(t.Context())
	var e *slack.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, slack.App, e.Class)
}

func TestAuthReportsIdentityAndScopes(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	id, err := client.Auth(t.Context())
	require.NoError(t, err)
	require.Equal(t, "T0EMULATOR", id.TeamID)
	require.Equal(t, "U0BOT", id.UserID)
	require.NotEmpty(t, id.BotID)
	require.False(t, id.Date.IsZero())
	want := emulator.DefaultScopes()
	slices.Sort(want)
	require.Equal(t, want, id.Scopes)
}
