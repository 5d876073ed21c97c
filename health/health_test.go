package health_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/health"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// fold has a state live through results, a second apart.
func fold(s health.State, from time.Time, l health.Limits, results ...bool) (health.State, time.Time) {
	for _, ok := range results {
		s = s.Done(ok, from, l)
		from = from.Add(time.Second)
	}
	return s, from
}

func repeat(ok bool, n int) []bool {
	out := make([]bool, n)
	for i := range out {
		out[i] = ok
	}
	return out
}

func TestAShareOfFailuresAmongEnoughRequestsOpensTheBreaker(t *testing.T) {
	t.Parallel()
	l := health.Limits{Breaker: health.Endpoints()}
	for name, c := range map[string]struct {
		well, ill int
		open      bool
	}{
		"too few to judge":   {0, 9, false},
		"all of ten":         {0, 10, true},
		"seven of ten":       {3, 7, true},
		"six of ten":         {4, 6, false},
		"a thousand before":  {1000, 20, false},
		"fourteen of twenty": {6, 14, true},
	} {
		s, at := fold(health.State{}, start, l, append(repeat(true, c.well), repeat(false, c.ill)...)...)
		_, wait := s.Admit(at, l)
		require.Equal(t, c.open, wait > 0, name)
		require.Equal(t, c.open, s.Open(at), name)
	}
}

func TestWhatIsOlderThanTheWindowIsForgotten(t *testing.T) {
	t.Parallel()
	l := health.Limits{Breaker: health.Endpoints()}
	s, at := fold(health.State{}, start, l, repeat(false, 9)...)
	s, at = fold(s, at.Add(6*time.Minute), l, repeat(false, 9)...)
	require.False(t, s.Open(at))
	s, at = fold(s, at, l, false)
	require.True(t, s.Open(at))
}

func TestFailuresInARowOpenTheBreaker(t *testing.T) {
	t.Parallel()
	l := health.Limits{Breaker: health.Breaker{Failures: 3, Within: time.Minute, For: 10 * time.Second}}
	s, at := fold(health.State{}, start, l, false, false, true, false, false)
	require.False(t, s.Open(at), "the row was broken")
	s, at = fold(s, at, l, false)
	require.True(t, s.Open(at))
	s, at = fold(health.State{}, start, l, false, false)
	s, at = fold(s, at.Add(2*time.Minute), l, false)
	require.False(t, s.Open(at), "the first of the row is too long ago")
}

func TestOneTrialAtATimeDecidesAboutAnOpenBreaker(t *testing.T) {
	t.Parallel()
	l := health.Limits{Breaker: health.Endpoints()}
	open := func() (health.State, time.Time) { return fold(health.State{}, start, l, repeat(false, 10)...) }
	s, at := open()
	_, wait := s.Admit(at, l)
	require.Equal(t, 29*time.Second, wait, "from the failure that opened it")
	require.Equal(t, s, s.Done(true, at, l), "what was begun before says nothing")

	at = at.Add(wait)
	s, wait = s.Admit(at, l)
	require.Zero(t, wait)
	_, wait = s.Admit(at, l)
	require.Equal(t, time.Minute, wait, "while the trial is under way")
	_, wait = s.Forgo().Admit(at, l)
	require.Zero(t, wait, "a trial that was not made leaves its place")
	_, wait = s.Admit(at.Add(time.Minute), l)
	require.Zero(t, wait, "nothing was heard of the trial")

	require.Equal(t, health.State{}, s.Done(true, at, l), "all is well and forgotten")
	s = s.Done(false, at, l)
	require.Equal(t, 2, s.Trips)
	require.True(t, s.Open(at.Add(29*time.Second)))
	require.False(t, s.Open(at.Add(30*time.Second)))
}

func TestWithoutLimitsEverybodyIsAdmittedAndNothingIsKept(t *testing.T) {
	t.Parallel()
	var s health.State
	for range 1000 {
		next, wait := s.Admit(start, health.Limits{})
		require.Zero(t, wait)
		s = next.Done(false, start, health.Limits{})
	}
	require.Equal(t, health.State{}, s)
}

// TestARateIsKept: in no span are more admitted than the rate and a burst allow, and whoever
// waits as long as told is admitted.
func TestARateIsKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := health.Rate{N: rapid.IntRange(1, 500).Draw(t, "n"), Per: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "per")}
		l := health.Limits{Rate: r}
		var s health.State
		now, admitted := start, 0
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			next, wait := s.Admit(now, l)
			if wait > 0 {
				if wait > r.Per {
					t.Fatalf("a wait of %s at %d in %s", wait, r.N, r.Per)
				}
				now = now.Add(wait)
				if next, wait = s.Admit(now, l); wait > 0 {
					t.Fatalf("another wait of %s after the first", wait)
				}
			}
			s, admitted = next, admitted+1
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(r.Per)/int64(r.N)).Draw(t, "pause")))
		}
		burst := max(1, float64(r.N)*float64(time.Second)/float64(r.Per))
		if most := burst + float64(now.Sub(start))/float64(r.Per)*float64(r.N) + 1; float64(admitted) > most {
			t.Fatalf("%d admitted, at most %.2f", admitted, most)
		}
	})
}

// TestAStateIsSmallAndComesBackFromJSON whatever it lived through, and the old one is left as
// it was.
func TestAStateIsSmallAndComesBackFromJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := health.Endpoints()
		b.Failures = rapid.IntRange(0, 5).Draw(t, "row")
		l := health.Limits{Rate: health.Rate{N: 100, Per: time.Second}, Breaker: b}
		var s health.State
		now := start
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			before, _ := json.Marshal(s)
			kept := s
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "pause")))
			if next, wait := s.Admit(now, l); wait == 0 {
				s = next.Done(rapid.Bool().Draw(t, "ok"), now, l)
			}
			if after, _ := json.Marshal(kept); string(after) != string(before) {
				t.Fatalf("%s became %s", before, after)
			}
		}
		text, err := json.Marshal(s)
		if err != nil || len(text) > 1200 {
			t.Fatalf("%d bytes: %v", len(text), err)
		}
		var back health.State
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(back)
		if string(again) != string(text) {
			t.Fatalf("%s came back as %s", text, again)
		}
		if a, b := s.Open(now), back.Open(now); a != b {
			t.Fatalf("open: %t and %t", a, b)
		}
	})
}
