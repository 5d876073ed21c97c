package notify_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/notify"
	"countersign/slack"
)

const (
	post    = "chat.postMessage"
	update  = "chat.update"
	history = "conversations.history"
	publish = "views.publish"
)

var midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// allowed counts how many calls a limiter lets through in a while, asked as often as possible.
func allowed(l notify.Limiter, from time.Time, d time.Duration, method, room string) (n int) {
	for now := from; now.Before(from.Add(d)); now = now.Add(10 * time.Millisecond) {
		for l.Take(now, method, room) == 0 {
			n++
		}
	}
	return n
}

func TestEachMethodStaysBelowItsTierInEveryMinute(t *testing.T) {
	t.Parallel()
	for method, tier := range map[string]int{update: 50, history: 50, publish: 100, post: 300} {
		l := notify.NewLimiter(notify.Limits{})
		first := allowed(l, midnight, time.Minute, method, "")
		require.LessOrEqual(t, first, tier, method)
		require.GreaterOrEqual(t, first, tier*9/10, method)
		second := allowed(l, midnight.Add(time.Minute), time.Minute, method, "")
		require.LessOrEqual(t, second, tier*8/10+1, "%s: four fifths on the average", method)
		require.GreaterOrEqual(t, second, tier*8/10-1, method)
	}
}

func TestARoomTakesThreeMessagesAtOnceAndThenOneASecond(t *testing.T) {
	t.Parallel()
	l := notify.NewLimiter(notify.Limits{})
	for range 3 {
		require.Zero(t, l.Take(midnight, post, "C1"))
	}
	require.Equal(t, time.Second, l.Take(midnight, post, "C1"))
	require.Zero(t, l.Take(midnight, post, "C2"), "another room has its own")
	require.Equal(t, 10, allowed(l, midnight, 10001*time.Millisecond, post, "C1"))
	require.Zero(t, l.Take(midnight, "", ""), "no call")

	fast := notify.NewLimiter(notify.Limits{Scale: 10})
	require.Equal(t, 30, allowed(fast, midnight, time.Millisecond, post, "C1"))
	off := notify.NewLimiter(notify.Limits{Off: true})
	for range 1000 {
		require.Zero(t, off.Take(midnight, post, "C1"))
	}
}

func TestWhatIsNotCalledIsGivenBack(t *testing.T) {
	t.Parallel()
	l := notify.NewLimiter(notify.Limits{})
	for range 100 {
		require.Zero(t, l.Take(midnight, post, "C1"))
		l.GiveBack(post, "C1")
	}
	for range 100 {
		l.GiveBack(post, "C1") // more than was taken: there is never more than the burst
	}
	require.Equal(t, 3, allowed(l, midnight.Add(time.Millisecond), time.Millisecond, post, "C1"))
}

func TestRetryAfterStopsItsMethodAndNoOther(t *testing.T) {
	t.Parallel()
	l := notify.NewLimiter(notify.Limits{Off: true})
	l.Gate(midnight, post, 30*time.Second)
	l.Gate(midnight, post, time.Second) // the longer one counts
	require.Equal(t, 30*time.Second, l.Take(midnight, post, "C1"))
	require.Zero(t, l.Take(midnight, update, ""))
	require.Zero(t, l.Take(midnight.Add(30*time.Second), post, "C1"))
}

func TestTheLimitOfTheWorkspaceSlowsPostsDownForAWhile(t *testing.T) {
	t.Parallel()
	l := notify.NewLimiter(notify.Limits{})
	at := midnight
	posts := func() (n int) {
		// Over many rooms, so that only the workspace counts.
		for now := at; now.Before(at.Add(50 * time.Second)); now = now.Add(50 * time.Millisecond) {
			for i := 0; l.Take(now, post, fmt.Sprint(now.UnixMilli(), i)) == 0; i++ {
				n++
			}
		}
		return n
	}
	posts()
	at = at.Add(50 * time.Second)
	l.SlowDown(at)
	require.InDelta(t, 100, posts(), 10, "half of 200 in 50 s")
	at = at.Add(50 * time.Second)
	for range 10 {
		l.SlowDown(at)
	}
	require.InDelta(t, 200/16, posts(), 3, "a sixteenth, and no less")
	at = at.Add(5 * time.Minute)
	posts()
	at = at.Add(50 * time.Second)
	require.InDelta(t, 200, posts(), 5, "all of it again")
}

func TestFiveFailuresInARowOpenTheBreaker(t *testing.T) {
	t.Parallel()
	b := notify.NewBreaker(5*time.Second, time.Minute)
	e := &slack.Error{Class: slack.Retryable, Method: post, Code: "network"}
	for range 3 {
		for range 4 {
			require.False(t, b.Failed(midnight, e))
		}
		b.Succeeded()
	}
	for range 4 {
		b.Failed(midnight, e)
	}
	_, open := b.Wait(midnight)
	require.False(t, open)
	require.True(t, b.Failed(midnight, e))
	require.False(t, b.Failed(midnight, e), "the sixth was under way")
	b.Succeeded() // so was this one
	wait, open := b.Wait(midnight)
	require.True(t, open)
	require.Equal(t, 5*time.Second, wait)
	require.Equal(t, "chat.postMessage: network", b.Is().Reason)

	now := midnight
	for _, next := range []time.Duration{10, 20, 40, 60, 60} {
		now = now.Add(wait)
		require.False(t, b.Probed(now, errors.New("still away")))
		wait, _ = b.Wait(now)
		require.Equal(t, next*time.Second, wait)
	}
	require.True(t, b.Probed(now, nil))
	require.False(t, b.Is().Open)
	require.True(t, b.Failed(now, e), "one more is enough after a probe")
	wait, _ = b.Wait(now)
	require.Equal(t, time.Minute, wait, "and the pause is as long as it was")
	require.True(t, b.Probed(now, nil))
	b.Succeeded()
	for range 4 {
		require.False(t, b.Failed(now, e))
	}
	require.True(t, b.Failed(now, e))
	wait, _ = b.Wait(now)
	require.Equal(t, 5*time.Second, wait)
}

func TestTheBreakerStaysOpenForAnOperator(t *testing.T) {
	t.Parallel()
	b := notify.NewBreaker(5*time.Second, time.Minute)
	require.True(t, b.Trip(midnight, "token_revoked"))
	require.False(t, b.Trip(midnight, "token_revoked"), "no news")
	wait, open := b.Wait(midnight)
	require.True(t, open)
	require.Equal(t, time.Minute, wait)
	require.Equal(t, midnight, b.Is().Since)
}
