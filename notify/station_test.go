package notify_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/notify"
	"countersign/policy"
	"countersign/slack"
	"countersign/slack/emulator"
)

// patience bounds waits that end on a signal.
const patience = 90 * time.Second

const stationConfig = `
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR, channel: "#approvals", fallback_channel: "#fallback"}
callers:
  - {name: payroll-bot, key_sha256: abababababababababababababababababababababababababababababababab, owners: [dora], upstreams: [billing]}
people:
  - {name: ana, slack: U0ANA}
  - {name: bo, slack: U0BO}
  - {name: chen, slack: U0CHEN}
  - {name: dora, slack: U0DORA}
groups: [{name: security, members: [ana, bo, chen]}]
upstreams: [{name: billing, base_url: "https://billing.internal", timeout: 1s}]
rules: [{name: ask, match: {upstream: billing}, stages: [{name: security, need: [{from: [security], approvals: 1}]}]}]
`

// station is one test's database and Slack, with a planner and no sender yet.
type station struct {
	tb      testing.TB
	url     string
	store   *db.Store
	config  *policy.Config
	space   *emulator.Server
	calls   *tape
	planner *notify.Planner
}

func stationSecrets(name string) string {
	return map[string]string{"BOT": "xoxb-emulator", "SIGNING": "emulator-signing-secret"}[name]
}

// newStation makes a station whose app may read messages, unless change says otherwise.
func newStation(tb testing.TB, change ...func(*emulator.Config)) *station {
	tb.Helper()
	s := &station{tb: tb, url: dbtest.Database(tb)}
	var err error
	s.config, err = policy.Parse("station.yaml", []byte(stationConfig), stationSecrets)
	require.NoError(tb, err)
	s.space = newSpace(tb, change...)
	s.calls = &tape{at: map[string][]time.Time{}}
	s.store = dbtest.Store(tb, dbtest.PoolOf(tb, s.url), &dbtest.Outbox{})
	s.planner = newPlanner(tb, s.store, s.config)
	return s
}

func newPlanner(tb testing.TB, store *db.Store, config *policy.Config) *notify.Planner {
	tb.Helper()
	p, err := notify.NewPlanner(notify.PlannerConfig{
		Store: store, Policy: func() *policy.Config { return config }, PublicURL: "https://countersign.example.com", Now: wallClock, Logger: quiet(),
		Home: func(context.Context, db.Home) (slack.HomeView, error) {
			return slack.Home(slack.HomeTab{Now: wallClock()}), nil
		},
	})
	require.NoError(tb, err)
	return p
}

func newSpace(tb testing.TB, change ...func(*emulator.Config)) *emulator.Server {
	tb.Helper()
	people := []string{"U0ANA", "U0BO", "U0CHEN", "U0DORA"}
	c := emulator.Config{Scopes: append(emulator.DefaultScopes(), slack.HistoryScopes()...)}
	for _, id := range people {
		name := strings.ToLower(strings.TrimPrefix(id, "U0"))
		c.Workspace.Users = append(c.Workspace.Users, emulator.User{ID: id, Name: name, RealName: name})
	}
	for _, name := range []string{"approvals", "fallback", "one", "two", "three", "four"} {
		c.Workspace.Channels = append(c.Workspace.Channels, emulator.Channel{
			ID: "C0" + strings.ToUpper(name), Name: name, Members: append([]string{"U0BOT"}, people...),
		})
	}
	for _, f := range change {
		f(&c)
	}
	space := emulator.New(c)
	_, err := space.Start(tb.Context(), "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(space.Close)
	return space
}

// mute takes from the app the right to read messages.
func mute(c *emulator.Config) { c.Scopes = emulator.DefaultScopes() }

func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // the one clock of these tests
}

// tape keeps when which method was called.
type tape struct {
	inner slack.Doer
	mu    sync.Mutex
	at    map[string][]time.Time
}

func (t *tape) Do(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	t.at[method] = append(t.at[method], wallClock())
	t.mu.Unlock()
	return t.inner.Do(r)
}

func (t *tape) count(method string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.at[method])
}

// busiest is the largest number of calls of a method within a second.
func (t *tape) busiest(method string) (most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.SortedFunc(slices.Values(t.at[method]), time.Time.Compare)
	for i, from := 0, 0; i < len(at); i++ {
		for at[i].Sub(at[from]) > time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func newClient(tb testing.TB, apiURL string, calls *tape) *slack.Client {
	tb.Helper()
	inner := egress.SlackClient(egress.SlackConfig{AllowLoopback: true, Timeout: 20 * time.Second})
	tb.Cleanup(inner.CloseIdleConnections)
	calls.inner = inner
	c, err := slack.New(slack.Config{Token: slack.Secret(stationSecrets("BOT")), APIURL: apiURL, HTTP: calls, Timeout: 9 * time.Second, Logger: quiet()})
	require.NoError(tb, err)
	return c
}

// senderConfig is one that is quick, and knows no limits.
func (s *station) senderConfig() notify.SenderConfig {
	return notify.SenderConfig{
		Store: s.store, Client: newClient(s.tb, s.space.APIURL(), s.calls), Content: s.planner, Limits: notify.Limits{Off: true}, Now: wallClock, Logger: quiet(),
		Settle: 300 * time.Millisecond, Poll: 20 * time.Millisecond, Pause: 50 * time.Millisecond, LongestPause: 200 * time.Millisecond,
	}
}

// send runs a sender until the test ends, or stop is called.
func (s *station) send(change ...func(*notify.SenderConfig)) (sender *notify.Sender, stop func()) {
	s.tb.Helper()
	c := s.senderConfig()
	for _, f := range change {
		f(&c)
	}
	sender, err := notify.NewSender(c)
	require.NoError(s.tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sender.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	s.tb.Cleanup(stop)
	return sender, stop
}

// submit makes a ticket that is to be shown in a channel, and plans its card.
func (s *station) submit(channel string) approvals.Ticket {
	s.tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(s.tb, err)
	sub := approvals.Submission{
		ID: approvals.TicketID(id), Caller: "payroll-bot", Justification: "asked for erasure",
		Call: approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"},
	}
	res, err := s.store.Submit(s.tb.Context(), db.SubmitRequest{
		Submission: sub, Directory: s.config.Directory(), Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: sub.ID},
		Plan: approvals.Plan{
			Rule: "ask", Action: approvals.ActionApprove, PolicyDigest: "p", UpstreamDigest: "u", ExpiresIn: time.Hour, ExecuteWithin: 15 * time.Minute,
			Stages: []approvals.Stage{{
				Name: "security", Denials: 1, Channel: channel, RemindEvery: time.Minute,
				Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 1}},
			}},
		},
	})
	require.NoError(s.tb, err)
	require.NoError(s.tb, s.planner.Notify(s.tb.Context(), res.Ticket.ID, 1))
	return res.Ticket
}

// advance changes a ticket and plans what follows.
func (s *station) advance(id string, decide db.Decide) {
	s.tb.Helper()
	x, err := s.store.Advance(s.tb.Context(), db.Ref{ID: id}, decide)
	require.NoError(s.tb, err)
	require.NoError(s.tb, s.planner.Notify(s.tb.Context(), id, x.Version))
	require.NoError(s.tb, s.planner.Changed(s.tb.Context(), id))
}

func (s *station) deny(id string) {
	s.tb.Helper()
	s.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		actor := approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "slack"}
		return x.Decide(actor, approvals.Decision{
			Person: "ana", Verdict: approvals.Deny, Digest: x.Digest, Stage: x.Stage, Comment: "not today", At: now,
		}, s.config.Directory(), now)
	})
}

// progress changes a ticket without ending it.
func (s *station) progress(id string) {
	s.tb.Helper()
	s.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		tr, _ := x.Stranger(approvals.Actor{Kind: approvals.ActorStranger, Name: "U0EVE", Via: "slack"}, "approve", now)
		return tr, nil
	})
}

// channel is what people read in a channel, oldest first: messages, and with replies those
// below them.
func (s *station) channel(name string) (out []emulator.Message) {
	s.tb.Helper()
	for _, c := range s.space.Snapshot().Channels {
		if c.Name == name {
			return c.Messages
		}
	}
	return nil
}

// cardsIn are the messages of a channel that are not replies.
func (s *station) cardsIn(name string) []emulator.Message {
	return slices.DeleteFunc(slices.Clone(s.channel(name)), func(m emulator.Message) bool { return m.ThreadTS != "" })
}

// eventually waits until check holds.
func (s *station) eventually(what string, check func() bool) {
	s.tb.Helper()
	eventually(s.tb, what, check)
}

func eventually(tb testing.TB, what string, check func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-deadline.C:
			require.FailNow(tb, "waited in vain", what)
		case <-tick.C:
		}
	}
}

// settled waits until nothing is owed any more.
func (s *station) settled() {
	s.tb.Helper()
	conn := dbtest.PoolOf(s.tb, s.url)
	s.eventually("nothing is owed to slack any more", func() bool {
		var owed int
		err := conn.QueryRow(s.tb.Context(), `SELECT (SELECT count(*) FROM slack_outbox WHERE state IN ('queued', 'sending', 'unknown'))
			+ (SELECT count(*) FROM cards WHERE desired > shown AND ts <> '') + (SELECT count(*) FROM card_copies WHERE desired > shown)`).Scan(&owed)
		require.NoError(s.tb, err)
		return owed == 0
	})
	conn.Close()
}

// posts lists what became of the posts of a ticket, as "kind destination state".
func (s *station) posts(id string) (out []string) {
	s.tb.Helper()
	posts, err := s.store.PostsOf(s.tb.Context(), id)
	require.NoError(s.tb, err)
	for _, p := range posts {
		out = append(out, fmt.Sprintf("%s %s %s", p.Kind, p.Destination, p.State))
	}
	return out
}

// notified counts how often a ticket's trail says that its card was posted.
func (s *station) notified(id string) (n int) {
	s.tb.Helper()
	events, err := s.store.Events(s.tb.Context(), db.Ref{ID: id}, 0, 100)
	require.NoError(s.tb, err)
	for _, e := range events {
		if e.Type == approvals.EventNotified {
			n++
		}
	}
	return n
}

// requireShown asserts that what the card of a ticket shows is kept, and is what is in Slack.
func (s *station) requireShown(id string) {
	s.tb.Helper()
	cards, err := s.store.Cards(s.tb.Context(), id)
	require.NoError(s.tb, err)
	for _, c := range cards {
		require.NotEmpty(s.tb, c.Rendered, "what card %s shows", c.Handle)
		_, err := s.store.Rendering(s.tb.Context(), c.Rendered)
		require.NoError(s.tb, err)
	}
}

// everyCard reads all cards.
func (s *station) everyCard() (out []db.Card) {
	s.tb.Helper()
	tickets, err := s.store.Tickets(s.tb.Context(), db.Filter{Limit: 1000})
	require.NoError(s.tb, err)
	for _, x := range tickets {
		cards, err := s.store.Cards(s.tb.Context(), x.ID)
		require.NoError(s.tb, err)
		out = append(out, cards...)
	}
	return out
}

// forget begins a new tape.
func (t *tape) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = map[string][]time.Time{}
}

// before asserts that a method was called before the last call of another.
func (t *tape) before(tb testing.TB, first, then string) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	require.NotEmpty(tb, t.at[first])
	require.NotEmpty(tb, t.at[then])
	require.True(tb, t.at[first][0].Before(t.at[then][len(t.at[then])-1]), "%s before %s", first, then)
}

// fixed is content that needs no ticket, and otherwise that of a planner.
type fixed struct{ notify.Content }

func (fixed) Post(context.Context, db.Post) (notify.Outgoing, error) {
	return notify.Outgoing{Message: slack.Help()}, nil
}
