package directory_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
	"countersign/directory"
	"countersign/policy"
	"countersign/slack"
	"countersign/slack/emulator"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// text is a configuration; more is of its Slack section, people and rules.
func text(slackMore, people string) string {
	return fmt.Sprintf(`
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR, channel: "#approvals"%s}
callers: [{name: bot, key_sha256: %s, owners: [dora], upstreams: [billing]}]
people:
  - {name: ana, slack: U0ANA}
  - {name: bo, slack: U0BO}
  - {name: chen, slack: U0CHEN}
  - {name: dora, slack: U0DORA}
%s
groups: [{name: oncall, slack_usergroup: S0ONCALL}, {name: security, members: [ana, bo, chen]}]
upstreams: [{name: billing, base_url: "https://billing.internal/v1", credentials: {header: Authorization, value: "env:BILLING"}}]
rules:
  - {name: peer, match: {upstream: billing, methods: [POST]}, stages: [{name: peer, need: [{from: [security], approvals: 1}]}]}
  - {name: live, match: {upstream: billing}, stages: [{name: live, need: [{from: [oncall], approvals: 1}]}]}
`, slackMore, strings.Repeat("ab", 32), people)
}

func parse(tb testing.TB, yaml string) *policy.Config {
	tb.Helper()
	c, err := policy.Parse("test.yaml", []byte(yaml), func(string) string { return "xoxb-emulator" })
	require.NoError(tb, err)
	return c
}

// clock is wall time, which can be moved ahead. So ages grow without waiting.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Now().Add(time.Duration(c.ahead.Load())) //nolint:forbidigo // ages are of real rows
}

// world is a workspace, a database and a configuration.
type world struct {
	t      *testing.T
	emu    *emulator.Server
	srv    *httptest.Server
	pool   *pgxpool.Pool
	store  *db.Store
	config atomic.Pointer[policy.Config]
	clock  clock

	mu    sync.Mutex
	calls []string // methods that were called, in order
}

func setup(t *testing.T, change ...func(*emulator.Config)) *world {
	t.Helper()
	w := &world{t: t, pool: dbtest.Pool(t)}
	w.store = dbtest.Store(t, w.pool, &dbtest.Outbox{})
	c := emulator.Config{
		Scopes: append(emulator.DefaultScopes(), "users:read.email"),
		Workspace: emulator.Workspace{
			Users: []emulator.User{
				{ID: "U0ANA", Name: "ana", Email: "ana@example.com"},
				{ID: "U0BO", Name: "bo"},
				{ID: "U0CHEN", Name: "chen"},
				{ID: "U0DORA", Name: "dora"},
				{ID: "U0FAY", Name: "fay", Email: "fay@example.com"},
				{ID: "U0GIL", Name: "gil", Email: "gil@example.com"},
			},
			Channels: []emulator.Channel{
				{ID: "C0APPR", Name: "approvals", Members: []string{"U0BOT"}}, {ID: "C0OUT", Name: "out", Members: []string{"U0BOT"}, ExtShared: true},
			},
			UserGroups: []emulator.UserGroup{{ID: "S0ONCALL", Handle: "oncall", Name: "On call", Members: []string{"U0ANA", "U0FAY"}}},
		},
	}
	for _, f := range change {
		f(&c)
	}
	w.emu = emulator.New(c)
	w.srv = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.calls = append(w.calls, strings.TrimPrefix(r.URL.Path, "/api/"))
		w.mu.Unlock()
		w.emu.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.srv.Close)
	t.Cleanup(w.emu.Close)
	w.emu.SetBaseURL(w.srv.URL)
	w.config.Store(parse(t, text("", "")))
	return w
}

// called counts the calls of a method so far.
func (w *world) called(method string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c == method {
			n++
		}
	}
	return n
}

// source is the directory of one more process. Its budgets are generous: the machine may
// be busy.
func (w *world) source(change ...func(*directory.Config)) *directory.Source {
	w.t.Helper()
	client, err := slack.New(slack.Config{Token: "xoxb-emulator", APIURL: w.srv.URL + "/api/", HTTP: w.srv.Client()}) //nolint:gosec // made up
	require.NoError(w.t, err)
	c := directory.Config{
		Store: w.store, Client: client, Policy: w.config.Load, Now: w.clock.now, Logger: slog.New(slog.DiscardHandler),
		ClickBudget: 30 * time.Second, ClaimBudget: 30 * time.Second, Every: 20 * time.Millisecond,
	}
	for _, f := range change {
		f(&c)
	}
	s, err := directory.New(c)
	require.NoError(w.t, err)
	return s
}

// run runs a source until the test ends, or until stop is called.
func (w *world) run(s *directory.Source) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) until(what string, check func() bool) {
	w.t.Helper()
	require.Eventually(w.t, check, 40*time.Second, 5*time.Millisecond, what)
}

// age makes everything that is known too old for a decision, here and in the database.
func (w *world) age() {
	w.t.Helper()
	const d = directory.MaxAge + time.Second
	w.clock.ahead.Add(int64(d))
	for _, table := range []string{"slack_users", "slack_groups", "slack_channels"} {
		_, err := w.pool.Exec(w.t.Context(), `UPDATE `+table+` SET read_at = read_at - $1::interval`, d)
		require.NoError(w.t, err)
	}
}

// oncall are the people in the live group, according to a configuration.
func oncall(c *policy.Config) []string {
	out := slices.Clone(c.Directory().Groups["oncall"])
	slices.Sort(out)
	return out
}

func fresh(tb testing.TB, s *directory.Source, users, groups []string) *policy.Config {
	tb.Helper()
	c, err := s.Fresh(tb.Context(), users, groups)
	require.NoError(tb, err)
	return c
}
