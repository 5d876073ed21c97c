package approvals_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// sequences is how many random lives TestCampaign drives unless SEQUENCES says otherwise,
// and where SEQUENCE is the seed of a failure it drives that one only, with every check.
const sequences = 3000

// dice are a generator that is seeded per life, so that a failure can be repeated.
type dice struct{ *rand.Rand }

// failure is how a life that breaks an invariant ends.
type failure string

func (d dice) pick(n int) int { return d.IntN(n) }

func (d dice) fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// tallies counts what the lives of one worker came across.
type tallies map[string]int

// live drives the life of a seed. It returns why that failed, "" when it did not.
func live(seed uint64, quick bool, seen tallies) (why string) {
	defer func() {
		if f, failed := recover().(failure); failed {
			why = string(f)
		}
	}()
	l := &life{chooser: dice{rand.New(rand.NewPCG(seed, 1))}, quick: quick, count: func(what string) { seen[what]++ }} //nolint:gosec // chances, no secrets
	if !l.open(true) {
		seen["no plan accepted"]++
		return ""
	}
	l.run(60)
	seen[fmt.Sprintf("end %s", l.ticket.State)]++
	seen["events"] += len(l.events)
	return ""
}

// TestCampaign is TestEveryLifeKeepsTheInvariants in bulk, on every processor: as many
// lives as SEQUENCES says. A failure names the seed of its life.
func TestCampaign(t *testing.T) {
	t.Parallel()
	if seed, err := strconv.ParseUint(os.Getenv("SEQUENCE"), 10, 64); err == nil {
		require.Empty(t, live(seed, false, tallies{}))
		return
	}
	total, first := uint64(sequences), uint64(0)
	if n, err := strconv.ParseUint(os.Getenv("SEQUENCES"), 10, 64); err == nil {
		total, first = n, rand.Uint64()>>16<<8 //nolint:gosec // another night, other lives
	}
	all := campaign(t, first, total)
	if os.Getenv("SEQUENCES") != "" {
		t.Log(report(total, all))
	}
}

// campaign divides the lives among workers and adds up what they saw. One life in sixteen
// is given every check.
func campaign(t *testing.T, first, total uint64) tallies {
	t.Helper()
	var (
		next    atomic.Uint64
		failed  atomic.Bool
		workers sync.WaitGroup
		mu      sync.Mutex
		all     = tallies{}
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			seen := tallies{}
			for n := next.Add(1); n <= total && !failed.Load(); n = next.Add(1) {
				if why := live(first+n, n%16 != 0, seen); why != "" {
					failed.Store(true)
					t.Errorf("SEQUENCE=%d repeats this failure:\n%s", first+n, why)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for what, n := range seen {
				all[what] += n
			}
		})
	}
	workers.Wait()
	return all
}

// report lists what was seen, and sums.
func report(total uint64, all tallies) string {
	verbs, refusals := 0, 0
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%12d %s", all[what], what))
		if strings.HasPrefix(what, "verb ") {
			verbs += all[what]
		}
		if strings.HasPrefix(what, "refusal ") {
			refusals += all[what]
		}
	}
	return fmt.Sprintf("%d sequences, %d verbs, %d refusals, %d events\n%s", total, verbs, refusals, all["events"], strings.Join(lines, "\n"))
}
