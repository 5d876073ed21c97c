package slack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack"
	"countersign/slack/emulator"
)

// shelf is a store of tokens as the database is one.
type shelf struct {
	mu     sync.Mutex
	now    func() time.Time
	sealed []byte
	until  time.Time
	holder string
	lease  time.Time
	puts   int
	fail   int // how many puts fail before one succeeds
}

func (s *shelf) SlackTokens(context.Context, string) (slack.SealedTokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slack.SealedTokens{Sealed: s.sealed, Left: s.until.Sub(s.now())}, nil
}

func (s *shelf) PutSlackTokens(_ context.Context, _ string, t slack.SealedTokens, before []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return false, errors.New("the database is away")
	}
	if string(before) != string(s.sealed) {
		return false, nil
	}
	s.sealed, s.until, s.puts = t.Sealed, s.now().Add(t.Left), s.puts+1
	return true, nil
}

func (s *shelf) HoldLease(_ context.Context, _, holder string, lease time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != "" && s.holder != holder && s.now().Before(s.lease) {
		return false, nil
	}
	s.holder, s.lease = holder, s.now().Add(lease)
	return true, nil
}

func (s *shelf) LeaveLease(_ context.Context, _, holder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == holder {
		s.holder = ""
	}
	return nil
}

// rotation is a workspace whose tokens rotate, on a clock that is moved by hand.
type rotation struct {
	t     *testing.T
	emu   *emulator.Server
	srv   *httptest.Server
	shelf *shelf
	log   *logged
}

type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const firstRefresh = "xoxe-1-first"

func rotating(t *testing.T) *rotation {
	t.Helper()
	emu := emulator.New(emulator.Config{
		Workspace: emulator.Demo(), RefreshToken: firstRefresh, Now: func() time.Time { return start },
	})
	srv := httptest.NewServer(emu)
	t.Cleanup(srv.Close)
	t.Cleanup(emu.Close)
	emu.SetBaseURL(srv.URL)
	return &rotation{t: t, emu: emu, srv: srv, shelf: &shelf{now: emu.Now}, log: &logged{}}
}

// process is the tokens of one more process, and a client that uses them.
func (r *rotation) process(change ...func(*slack.TokensConfig)) (*slack.Tokens, *slack.Client) {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := slack.TokensConfig{ //nolint:gosec // made up
		Store: r.shelf, AppID: "A0EMULATOR", ClientID: "emulator-client", ClientSecret: "emulator-client-secret", RefreshToken: firstRefresh,
		APIURL: r.srv.URL + "/api/", HTTP: r.srv.Client(), Now: r.emu.Now, Logger: log, Every: 5 * time.Millisecond,
	}
	for _, f := range change {
		f(&c)
	}
	tokens, err := slack.NewTokens(c)
	require.NoError(r.t, err)
	client, err := slack.New(slack.Config{Tokens: tokens.Token, APIURL: c.APIURL, HTTP: c.HTTP, Logger: log})
	require.NoError(r.t, err)
	return tokens, client
}

func (r *rotation) token(tokens *slack.Tokens) string {
	r.t.Helper()
	token, err := tokens.Token(r.t.Context(), "")
	require.NoError(r.t, err)
	return string(token)
}

func TestTokensAreRenewedBeforeTheyExpireAndSharedByAll(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	tokens, client := r.process()
	_, err := client.Auth(t.Context())
	require.NoError(t, err)
	first := r.token(tokens)
	require.Equal(t, 1, r.shelf.puts)

	others, other := r.process()
	_, err = other.Auth(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, r.token(others), "it is that of the database")
	require.Equal(t, 1, r.shelf.puts)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { tokens.Run(ctx) })
	r.emu.Advance(10*time.Hour + time.Minute) // less than two hours are left
	require.Eventually(t, func() bool { return r.token(tokens) != first }, 30*time.Second, 5*time.Millisecond)
	stop()
	running.Wait()
	require.Equal(t, first, r.token(others), "it is still good")
	_, err = other.Auth(t.Context())
	require.NoError(t, err)
	r.emu.Advance(2 * time.Hour)
	require.Equal(t, r.token(tokens), r.token(others), "now it is not, and the other's is taken over")
	require.Equal(t, 2, r.shelf.puts)
	for _, secret := range []string{first, r.token(tokens), firstRefresh, "emulator-client-secret"} {
		require.NotContains(t, r.log.String(), secret)
		require.NotContains(t, string(r.shelf.sealed), secret)
	}
}

func TestExpiredTokenIsRenewedOnceAndTheCallMadeOnceMore(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	_, client := r.process()
	_, err := client.Auth(t.Context())
	require.NoError(t, err)
	// Slack's clock is ahead of ours: the token expires before its time.
	r.emu.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.ErrorReply, Error: "token_expired"})
	ref, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	require.Len(t, r.emu.Messages(channel), 1)
	require.NotEmpty(t, ref.TS)
	require.Equal(t, 2, r.shelf.puts)
	// One that stays expired is the operator's.
	r.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.ErrorReply, Error: "token_expired", Times: 2})
	_, err = client.UserInfo(t.Context(), "U0ANA")
	requireCode(t, err, slack.App, "token_expired")
}

func TestManyProcessesRenewOnce(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	var all sync.WaitGroup
	got := make([]string, 12)
	for i := range got {
		tokens, _ := r.process()
		all.Go(func() {
			token, err := tokens.Token(t.Context(), "")
			if err != nil {
				t.Error(err)
			}
			got[i] = string(token)
		})
	}
	all.Wait()
	for _, token := range got {
		require.Equal(t, got[0], token)
	}
	require.Equal(t, 1, r.shelf.puts)
}

func TestAPairIsKeptHoweverLongThatTakes(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	r.shelf.fail = 3
	tokens, _ := r.process()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // even by somebody who has gone already: the answer may be on its way
	_, _ = tokens.Token(ctx, "")
	require.NotEmpty(t, r.token(tokens))
	require.Equal(t, 1, r.shelf.puts)
}

func TestAnAnswerThatIsLostIsAskedForAgainWithinSlacksGrace(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	r.emu.AddFault(emulator.Fault{Method: "oauth.v2.access", Kind: emulator.CommitThenDrop})
	tokens, client := r.process()
	_, err := tokens.Token(t.Context(), "")
	require.Error(t, err)
	require.Empty(t, r.shelf.sealed)
	_, err = client.Auth(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, r.shelf.puts)

	// After it, only an operator can help, and is told so: the class is that of the app.
	r = rotating(t)
	r.emu.AddFault(emulator.Fault{Method: "oauth.v2.access", Kind: emulator.CommitThenDrop})
	tokens, client = r.process()
	_, err = tokens.Token(t.Context(), "")
	require.Error(t, err)
	r.emu.Advance(time.Hour)
	_, err = client.Auth(t.Context())
	requireCode(t, err, slack.App, "no_token")
	require.Contains(t, err.Error(), "invalid_refresh_token")
}

func TestAProcessThatDiedWhileItRenewedIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	_, err := r.shelf.HoldLease(t.Context(), "", "dead", 30*time.Second)
	require.NoError(t, err)
	tokens, _ := r.process()
	done := make(chan error, 1)
	go func() {
		_, err := tokens.Token(t.Context(), "")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.NewTimer(300 * time.Millisecond).C:
	}
	r.emu.Advance(31 * time.Second)
	require.NoError(t, <-done)
}

func TestANewRefreshTokenInTheConfigurationBeginsAnew(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	tokens, _ := r.process()
	first := r.token(tokens)
	again := rotating(t) // installed anew: another first token
	again.shelf = r.shelf
	_, client := again.process(func(c *slack.TokensConfig) {
		c.HTTP = replacing{again.srv.Client(), "xoxe-1-second", firstRefresh}
		c.RefreshToken = "xoxe-1-second"
	})
	_, err := client.Auth(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, r.shelf.puts)
	require.Equal(t, first, r.token(tokens), "until it looks again")
}

// replacing lets a workspace that knows one word hear another.
type replacing struct {
	doer        slack.Doer
	said, heard string
}

func (r replacing) Do(req *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	body := strings.ReplaceAll(string(raw), r.said, r.heard)
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	req.GetBody = nil
	return r.doer.Do(req)
}

func TestSealedTokensAreThatAppsAndUnderThatSecret(t *testing.T) {
	t.Parallel()
	r := rotating(t)
	tokens, _ := r.process()
	first := r.token(tokens)
	sealed := append([]byte{}, r.shelf.sealed...)
	for name, change := range map[string]func(*slack.TokensConfig){
		"another secret": func(c *slack.TokensConfig) { c.ClientSecret = "other" },
		"another app":    func(c *slack.TokensConfig) { c.AppID = "A0OTHER" },
	} {
		r.emu.AddFault(emulator.Fault{Method: "oauth.v2.access", Kind: emulator.ServerError})
		other, _ := r.process(change)
		_, err := other.Token(t.Context(), "")
		require.Error(t, err, name)
	}
	for i := range sealed { // nor is one that somebody has touched
		r.shelf.sealed = append([]byte{}, sealed...)
		r.shelf.sealed[i] ^= 1
		r.emu.AddFault(emulator.Fault{Method: "oauth.v2.access", Kind: emulator.ServerError})
		other, _ := r.process()
		_, err := other.Token(t.Context(), "")
		require.Error(t, err, i)
		if i > 40 {
			break
		}
	}
	r.shelf.sealed = sealed
	other, _ := r.process()
	require.Equal(t, first, r.token(other))
	r.emu.ClearFaults()
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	t.Cleanup(srv.Close)
	for _, answer := range []error{errors.New("no database"), nil} {
		client, err := slack.New(slack.Config{
			APIURL: srv.URL, HTTP: srv.Client(), Tokens: func(context.Context, slack.Secret) (slack.Secret, error) { return "", answer },
		})
		require.NoError(t, err)
		for method, err := range calls(t, client) {
			requireCode(t, err, slack.Retryable, "no_token")
			require.ErrorContains(t, err, "no token", method)
		}
	}
}

func TestATokenThatIsReplacedIsUsedFromTheNextCallOn(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"ok":false,"error":"x","needed":"`+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+`"}`) //nolint:gosec // a test's own server
	}))
	t.Cleanup(srv.Close)
	var token slack.Secret
	client, err := slack.New(slack.Config{
		APIURL: srv.URL, HTTP: srv.Client(), Tokens: func(context.Context, slack.Secret) (slack.Secret, error) { return token, nil },
	})
	require.NoError(t, err)
	for _, token = range []slack.Secret{"plain-canary-1", "xoxb-canary-2", "plain-canary-1"} {
		_, err := client.Auth(t.Context())
		require.Equal(t, "Bearer "+string(token), <-seen)
		require.NotContains(t, fmt.Sprintf("%+v %v", err, client), "canary")
		var e *slack.Error
		require.ErrorAs(t, err, &e)
		require.NotContains(t, strings.Join(e.Details, " "), "canary")
	}
}

func TestNewTokensSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := slack.NewTokens(slack.TokensConfig{})
	require.Error(t, err)
}
