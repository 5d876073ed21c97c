package emulator_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// try calls a method and returns the answer's status and Retry-After, or an error when the
// connection was lost.
func (b *bundle) try(ctx context.Context, method string) (status int, retryAfter string, err error) {
	form := url.Values{"token": {token}, "channel": {channel}, "text": {"x"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+"/api/"+method, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, resp.Header.Get("Retry-After"), nil
}

func TestFaultsHitTheirMethodForAsManyCallsAsPlanned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.RateLimited, RetryAfter: 7, Times: 2})
	for range 2 {
		status, retryAfter, err := b.try(t.Context(), "chat.postMessage")
		require.NoError(t, err)
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Equal(t, "7", retryAfter)
		b.ok("auth.test")
	}
	b.post("text", "x")
	require.Len(t, b.slack.Messages(channel), 1)
}

func TestFaultsAnswerAsSlackOrWhatIsInFrontOfItWould(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  emulator.Fault
		status int
		body   string
	}{
		"workspace limit": {emulator.Fault{Kind: emulator.RateLimited}, 429, `"error":"message_limit_exceeded"`},
		"server error":    {emulator.Fault{Kind: emulator.ServerError}, 500, "Internal Server Error"},
		"error":           {emulator.Fault{Kind: emulator.ErrorReply, Error: "fatal_error"}, 200, `{"error":"fatal_error","ok":false}`},
		"ok:false":        {emulator.Fault{Kind: emulator.SilentFailure}, 200, `{"ok":false}`},
		"html":            {emulator.Fault{Kind: emulator.HTML}, 200, "<!doctype html>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			tc.fault.Method = "chat.postMessage"
			b.slack.AddFault(tc.fault)
			status, h, body := b.do("POST", "/api/chat.postMessage", "application/x-www-form-urlencoded", "token="+token+"&channel="+channel+"&text=x")
			require.Equal(t, tc.status, status)
			require.Contains(t, body, tc.body)
			require.Empty(t, h.Get("Retry-After"))
			require.Empty(t, b.slack.Messages(channel))
		})
	}
}

func TestCommitThenDropDoesTheWorkAndLosesTheAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "*", Kind: emulator.CommitThenDrop})
	_, _, err := b.try(t.Context(), "chat.postMessage")
	require.Error(t, err)
	require.Len(t, b.slack.Messages(channel), 1)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.Drop})
	_, _, err = b.try(t.Context(), "chat.postMessage")
	require.Error(t, err)
	require.Len(t, b.slack.Messages(channel), 1)
}

func planTaken(s emulator.Snapshot) bool { return len(s.Faults) == 0 }

func TestHangingCallThatIsGivenUpHasNoEffect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.Hang})
	ctx, giveUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := b.try(ctx, "chat.postMessage")
		done <- err
	}()
	require.NoError(t, b.slack.Wait(soon(t), planTaken))
	giveUp()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Empty(t, b.slack.Messages(channel))
}

func TestHangingCallGoesOnWhenReleased(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.Hang})
	done := make(chan error, 1)
	go func() {
		_, _, err := b.try(t.Context(), "chat.postMessage")
		done <- err
	}()
	require.NoError(t, b.slack.Wait(soon(t), planTaken))
	require.Eventually(t, func() bool {
		b.slack.ReleaseHangs() // again, as the call may not have reached the point where it waits
		return len(done) == 1
	}, soonest, tick)
	require.NoError(t, <-done)
	require.Len(t, b.slack.Messages(channel), 1)
}

func TestSlowCallsAnswerLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.Slow, DelayMS: 30})
	begun := wallClock()
	_, _, err := b.try(t.Context(), "chat.postMessage")
	require.NoError(t, err)
	require.GreaterOrEqual(t, wallClock().Sub(begun), 30*time.Millisecond)
	require.Len(t, b.slack.Messages(channel), 1)
}

func TestOutageTakesEverythingDownUntilItEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, path := b.responseURL()
	b.slack.SetOutage(true)
	for _, method := range []string{"auth.test", "chat.postMessage", "views.open"} {
		_, _, err := b.try(t.Context(), method)
		require.Error(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.base+path, strings.NewReader(`{"text":"x"}`))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	var lost *url.Error
	require.True(t, errors.As(err, &lost), "response_urls are down too")
	require.True(t, b.slack.Snapshot().Outage)
	b.slack.SetOutage(false)
	b.ok("auth.test")
}

func TestClearFaultsForgetsWhatHasNotHappened(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "response_url", Kind: emulator.ServerError})
	b.slack.AddFault(emulator.Fault{Method: "*", Kind: emulator.ServerError, Times: 9})
	b.slack.ClearFaults()
	b.ok("auth.test")
}
