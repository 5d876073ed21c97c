package notify_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/notify"
	"countersign/policy"
)

// drawingBoard is a planner without a sender, so that what it has written down stays as it is.
type drawingBoard struct {
	tb      testing.TB
	pool    *pgxpool.Pool
	store   *db.Store
	config  *policy.Config
	planner *notify.Planner
	log     *bytes.Buffer
	woken   chan struct{}
}

// crowd is how many people may decide on what a drawing board is about.
const crowd = 60

func newDrawingBoard(tb testing.TB, more string) *drawingBoard {
	tb.Helper()
	b := &drawingBoard{tb: tb, pool: dbtest.Pool(tb), config: crowded(tb, more, "dora"), log: &bytes.Buffer{}, woken: make(chan struct{}, 1000)}
	b.store = dbtest.Store(tb, b.pool, &dbtest.Outbox{})
	var err error
	b.planner, err = notify.NewPlanner(notify.PlannerConfig{
		Store: b.store, Policy: func() *policy.Config { return b.config }, Now: wallClock,
		Wake: func() { b.woken <- struct{}{} }, Logger: slog.New(slog.NewJSONHandler(b.log, nil)),
	})
	require.NoError(tb, err)
	return b
}

// crowded is a configuration in which any two of the crowd decide, one of whom has no Slack
// id. more are further fields of Slack.
func crowded(tb testing.TB, more, owners string) *policy.Config {
	tb.Helper()
	var people, names strings.Builder
	for i := range crowd {
		_, _ = fmt.Fprintf(&people, "  - {name: p%02d, slack: U0P%02d}\n", i, i)
		_, _ = fmt.Fprintf(&names, "p%02d, ", i)
	}
	c, err := policy.Parse("crowd.yaml", []byte(`
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR`+more+`}
callers:
  - {name: payroll-bot, key_sha256: `+strings.Repeat("ab", 32)+`, owners: [`+owners+`], upstreams: [billing]}
people:
  - {name: dora, slack: U0DORA}
  - {name: nobody, email: nobody@example.com}
`+people.String()+`
groups: [{name: crowd, members: [`+names.String()+`nobody]}]
upstreams: [{name: billing, base_url: "https://billing.internal"}]
rules: [{name: ask, match: {upstream: billing}, stages: [{name: crowd, need: [{from: [crowd], approvals: 2}]}]}]
`), stationSecrets)
	require.NoError(tb, err)
	return c
}

func (b *drawingBoard) submit(change func(*approvals.Plan)) approvals.Ticket {
	b.tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(b.tb, err)
	caller, _ := b.config.Caller("payroll-bot")
	s := approvals.Submission{
		ID: approvals.TicketID(id), Caller: "payroll-bot", Justification: "for the test",
		Call: approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"},
	}
	plan := b.config.Plan(caller, "", s.Call, wallClock())
	change(&plan)
	res, err := b.store.Submit(b.tb.Context(), db.SubmitRequest{
		Submission: s, Plan: plan, Directory: b.config.Directory().At(wallClock()), Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: s.ID},
	})
	require.NoError(b.tb, err)
	return res.Ticket
}

func (b *drawingBoard) posts(id string) []db.Post {
	b.tb.Helper()
	posts, err := b.store.PostsOf(b.tb.Context(), id)
	require.NoError(b.tb, err)
	return posts
}

func inChannel(p *approvals.Plan) { p.Stages[0].Channel, p.Stages[0].Direct = "#approvals", false }

func TestWhatIsPlannedAgainIsPlannedOnce(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	id := b.submit(func(p *approvals.Plan) {
		p.Stages[0].Channel, p.Stages[0].Direct = "#approvals", true
	}).ID
	require.NoError(t, b.planner.Notify(t.Context(), id, 1))
	before := b.posts(id)
	require.Len(t, before, 1+50)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := b.planner.Notify(t.Context(), id, 1); err != nil {
				t.Error(err)
			}
			if err := b.planner.Changed(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, before, b.posts(id))
	require.NotEmpty(t, b.woken, "the sender hears of it")
}

func TestAnEventThatIsNotThereIsToldToNobody(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	id := b.submit(inChannel).ID
	require.NoError(t, b.planner.Notify(t.Context(), id, 99))
	require.Empty(t, b.posts(id))
}

func TestACardOfOnePersonIsTheirsAlone(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	id := b.submit(func(p *approvals.Plan) { p.Stages[0].Direct = true }).ID
	require.NoError(t, b.planner.Notify(t.Context(), id, 1))
	cards, err := b.store.Cards(t.Context(), id)
	require.NoError(t, err)
	for _, c := range cards {
		require.Equal(t, c.Channel, c.SlackUser)
	}
}

func TestNotMoreThanFiftyPeopleAreWrittenToAndTheOthersHaveTheFallback(t *testing.T) {
	t.Parallel()
	for more, want := range map[string]int{"": 50, `, fallback_channel: "#last"`: 51} {
		b := newDrawingBoard(t, more)
		id := b.submit(func(p *approvals.Plan) { p.Stages[0].Channel = "" }).ID
		require.NoError(t, b.planner.Notify(t.Context(), id, 1))
		posts := b.posts(id)
		require.Len(t, posts, want)
		require.Equal(t, more != "", slices.ContainsFunc(posts, func(p db.Post) bool { return p.Destination == "#last" }))
		require.Contains(t, b.log.String(), `"msg":"not everybody who may decide is written to"`)
		require.Contains(t, b.log.String(), `"written_to":50,"left_out":11`)
	}
}

func TestTheOperatorHearsOfAStageWhosePeopleHaveNoPlaceInSlack(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	id := b.submit(func(p *approvals.Plan) {
		p.Stages[0].Channel, p.Stages[0].Need = "", []approvals.ApproverSet{{From: []string{"nobody"}, Approvals: 1}}
	}).ID
	require.NoError(t, b.planner.Notify(t.Context(), id, 1))
	require.Empty(t, b.posts(id))
	require.Contains(t, b.log.String(), `"level":"ERROR","msg":"nobody can be asked in slack about a request"`)
}

func TestThoseConcernedHaveTheirHomeTabsPublishedAnew(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	for user, person := range map[string]string{"U0P01": "p01", "U0DORA": "dora", "U0EVE": "eve"} {
		require.NoError(t, b.store.OpenedHome(t.Context(), "T0EMULATOR", user, person))
	}
	homes, err := b.store.DueHomes(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, homes, 3)
	for _, h := range homes {
		require.NoError(t, b.store.PublishedHome(t.Context(), h.SlackUser, h.DirtyAt))
	}
	id := b.submit(inChannel).ID
	require.NoError(t, b.planner.Notify(t.Context(), id, 1))
	var dirty []string
	require.NoError(t, b.pool.QueryRow(t.Context(),
		`SELECT array_agg(person ORDER BY person) FROM slack_homes WHERE dirty_at IS NOT NULL`).Scan(&dirty))
	require.Equal(t, []string{"dora", "p01"}, dirty)
}

func TestThePlannerNamesWhatItLacks(t *testing.T) {
	t.Parallel()
	_, err := notify.NewPlanner(notify.PlannerConfig{})
	require.ErrorContains(t, err, "Store, Policy and Now are required")
	b := newDrawingBoard(t, "")
	_, err = b.planner.Home(t.Context(), db.Home{})
	require.ErrorIs(t, err, notify.ErrOver, "no home tabs without somebody who renders them")
	_, err = b.planner.Post(t.Context(), db.Post{TicketID: b.submit(inChannel).ID, Kind: "letter"})
	require.ErrorContains(t, err, "unknown kind")
	require.Error(t, b.planner.Notify(t.Context(), "tkt_none", 1))
	require.Error(t, b.planner.Changed(t.Context(), "tkt_none"))
}

func TestQuestionsAndEndsAreToldToAtMostTwentyPeople(t *testing.T) {
	t.Parallel()
	b := newDrawingBoard(t, "")
	owners := "dora"
	for i := range 30 {
		owners += fmt.Sprintf(", p%02d", i)
	}
	b.config = crowded(t, "", owners)
	id := b.submit(inChannel).ID
	x, err := b.store.Advance(t.Context(), db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Ask(approvals.Actor{Kind: approvals.ActorPerson, Name: "p50"}, approvals.Question{Person: "p50", Text: "Which?"}, b.config.Directory(), now)
	})
	require.NoError(t, err)
	require.NoError(t, b.planner.Notify(t.Context(), id, x.Version))
	var asked int
	for _, p := range b.posts(id) {
		if p.Kind == db.PostQuestion {
			asked++
		}
	}
	require.Equal(t, 20, asked)
}
