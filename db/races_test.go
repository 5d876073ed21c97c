package db_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/db/dbtest"
)

// defaultRaces is how many there are unless RACES says otherwise.
const defaultRaces = 2000

// tracks is how many tickets are raced for at once.
const tracks = 6

// race is a ticket and those who decide on it at the same moment.
type race struct {
	needs    int
	verdicts map[string]approvals.Verdict
	// ends are the ways it may end, as the events after the first.
	ends []string
}

// races are the ways in which approvers can meet. In each, one event decides.
var races = map[string]race{
	"two for one place": {
		needs:    1,
		verdicts: map[string]approvals.Verdict{"ana": approvals.Approve, "bo": approvals.Approve},
		ends:     []string{"decided approved refused"},
	},
	"three for two places": {
		needs:    2,
		verdicts: map[string]approvals.Verdict{"ana": approvals.Approve, "bo": approvals.Approve, "chen": approvals.Approve},
		ends:     []string{"decided decided approved refused"},
	},
	"yes against no": {
		needs:    1,
		verdicts: map[string]approvals.Verdict{"ana": approvals.Approve, "bo": approvals.Deny},
		ends:     []string{"decided approved refused", "decided denied refused"},
	},
}

// TestTwoApproversAtOnceMakeOneDecision lets approvers decide at once, RACES times in all,
// through two stores on one Postgres as two processes would, and looks at every trail.
func TestTwoApproversAtOnceMakeOneDecision(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stores := []*db.Store{f.store, dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})}
	total := defaultRaces
	if text := os.Getenv("RACES"); text != "" {
		var err error
		total, err = strconv.Atoi(text)
		require.NoError(t, err, "RACES")
	}
	names := slices.Sorted(maps.Keys(races))
	counts := make(map[string]*atomic.Int64)
	for _, name := range names {
		for _, end := range races[name].ends {
			counts[name+": "+end] = new(atomic.Int64)
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range tracks {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(total) && !t.Failed(); n = next.Add(1) {
				name := names[int(n)%len(names)]
				end, err := hold(t.Context(), stores, races[name], request(t, plan(stage(races[name].needs))))
				if err != nil {
					t.Errorf("race %d, %s: %v", n, name, err)
					return
				}
				counts[name+": "+end].Add(1)
			}
		})
	}
	wg.Wait()
	var sum int64
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		sum += counts[name].Load()
		t.Logf("%6d  %s", counts[name].Load(), name)
	}
	require.EqualValues(t, total, sum)
	f.requireOneDecidingEventEach(t, total)
}

// hold opens a ticket, lets everybody decide on it at once, and returns how it ended. The
// error says what was not as it should be.
func hold(ctx context.Context, stores []*db.Store, r race, req db.SubmitRequest) (end string, err error) {
	res, err := stores[0].Submit(ctx, req)
	if err != nil {
		return "", err
	}
	x := res.Ticket
	start := make(chan struct{})
	answers := make(chan error, len(r.verdicts))
	for i, name := range slices.Sorted(maps.Keys(r.verdicts)) {
		go func() {
			<-start
			_, err := stores[i%len(stores)].Advance(ctx, db.Ref{ID: x.ID}, func(now approvals.Ticket, at time.Time) (approvals.Transition, error) {
				return now.Decide(person(name), approvals.Decision{
					Person: name, Verdict: r.verdicts[name], Stage: x.Stage, Digest: x.Digest, // what they were shown
				}, directory, at)
			})
			answers <- err
		}()
	}
	close(start)
	refused := 0
	for range r.verdicts {
		err := <-answers
		switch code := approvals.ErrorCode(err); {
		case err == nil:
		case code == approvals.CodeConflict || code == approvals.CodeAlreadyFinal:
			refused++
		default:
			return "", err
		}
	}
	if want := len(r.verdicts) - r.needs; refused != want {
		return "", fmt.Errorf("%d people were refused, want %d", refused, want)
	}
	return outcome(ctx, stores[0], x.ID, r)
}

// outcome verifies the trail of a ticket and that the ticket is its fold.
func outcome(ctx context.Context, s *db.Store, id string, r race) (string, error) {
	entries, err := s.Entries(ctx, db.Ref{ID: id})
	if err != nil {
		return "", err
	}
	if err := audit.VerifyChain(id, entries); err != nil {
		return "", err
	}
	events := make([]approvals.Event, 0, len(entries))
	types := make([]string, 0, len(entries))
	for _, e := range entries {
		events = append(events, e.Event)
		types = append(types, strings.TrimPrefix(string(e.Event.Type), "ticket."))
	}
	end := strings.Join(types[1:], " ")
	if !slices.Contains(r.ends, end) {
		return "", fmt.Errorf("it ended in %q", end)
	}
	stored, err := s.Ticket(ctx, db.Ref{ID: id})
	if err != nil {
		return "", err
	}
	stored.Call.Headers, stored.Call.Body = nil, nil
	if !reflect.DeepEqual(stored, approvals.Replay(events)) {
		return "", errors.New("the ticket is not the fold of its events")
	}
	return end, nil
}

// requireOneDecidingEventEach asks the tables themselves, all tickets at once.
func (f fixture) requireOneDecidingEventEach(t *testing.T, tickets int) {
	t.Helper()
	var all, wrong int
	require.NoError(t, superuser(t, f.url).QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE deciding <> 1 OR decided <> votes OR last <> state OR refused <> refusals OR events <> version)
		FROM (SELECT t.id, t.state, t.refusals, t.version, count(*) AS events,
				count(*) FILTER (WHERE e.type IN ('ticket.approved', 'ticket.denied')) AS deciding,
				count(*) FILTER (WHERE e.type = 'ticket.decided') AS decided,
				count(*) FILTER (WHERE e.type = 'ticket.refused') AS refused,
				(array_agg(e.state ORDER BY e.seq DESC))[1] AS last,
				(SELECT count(*) FROM decisions d WHERE d.ticket_id = t.id) AS votes
			FROM tickets t JOIN audit_events e ON e.ticket_id = t.id GROUP BY t.id) x`).Scan(&all, &wrong))
	require.Equal(t, tickets, all)
	require.Zero(t, wrong, "tickets with more or less than one deciding event, or rows that disagree with it")
}
