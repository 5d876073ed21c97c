package emulator_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// standing is a workspace whose clock moves by the test's hand alone.
func standing(c *emulator.Config) { c.Clock = emulator.NewClock(time.Unix(1_795_447_000, 0)) }

func limited(c *emulator.Config) {
	standing(c)
	c.Limits = emulator.Limits{On: true}
}

// status calls a method and returns the answer's status, Retry-After and error.
func (b *bundle) status(method string, args ...string) (status int, retryAfter string, word any) {
	b.t.Helper()
	form := url.Values{"token": {token}}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	status, h, body := b.do("POST", "/api/"+method, "application/x-www-form-urlencoded", form.Encode())
	return status, h.Get("Retry-After"), decode(b.t, body)["error"]
}

func TestRule8AMethodIsLimitedByItsTierAndOthersGoOn(t *testing.T) {
	t.Parallel()
	b := setup(t, limited)
	for range 20 {
		b.ok("usergroups.list")
	}
	status, after, word := b.status("usergroups.list")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "3", after, "20 a minute are one in three seconds")
	require.Equal(t, "ratelimited", word)
	b.ok("users.info", "user", ana)
	b.slack.Advance(2 * time.Second)
	status, after, _ = b.status("usergroups.list")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "1", after)
	b.slack.Advance(time.Second)
	b.ok("usergroups.list")
}

func TestRule8AChannelTakesOneMessageASecondAfterAShortBurst(t *testing.T) {
	t.Parallel()
	b := setup(t, limited)
	for range 4 {
		b.post("text", "x")
	}
	status, after, word := b.status("chat.postMessage", "channel", "#billing-approvals", "text", "x")
	require.Equal(t, http.StatusTooManyRequests, status, "however the channel is named")
	require.Equal(t, "1", after)
	require.Equal(t, "ratelimited", word)
	require.Len(t, b.slack.Messages(channel), 4, "and was not posted")
	b.ok("chat.postMessage", "channel", "C02GENERAL", "text", "another channel")
	b.slack.Advance(time.Second)
	b.post("text", "x")
}

func TestRule8TheWorkspacesMessageLimitDoesNotSayForHowLong(t *testing.T) {
	t.Parallel()
	b := setup(t, standing)
	b.slack.SetLimits(emulator.Limits{On: true, ChannelBurst: 100, WorkspacePerMinute: 3})
	for range 3 {
		b.post("text", "x")
	}
	status, after, word := b.status("chat.postMessage", "channel", channel, "text", "x")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Empty(t, after)
	require.Equal(t, "message_limit_exceeded", word)
	b.slack.Advance(20 * time.Second)
	b.post("text", "x")
}

func TestRule8LimitsScaleAndAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, standing)
	for range 30 {
		b.ok("usergroups.list")
		b.post("text", "x")
	}
	b.slack.SetLimits(emulator.Limits{On: true, Scale: 0.1, Methods: map[string]float64{"auth.test": 10}})
	b.ok("usergroups.list")
	b.ok("usergroups.list")
	status, _, _ := b.status("usergroups.list")
	require.Equal(t, http.StatusTooManyRequests, status)
	b.ok("auth.test")
	status, _, _ = b.status("auth.test")
	require.Equal(t, http.StatusTooManyRequests, status)
	b.slack.SetLimits(emulator.Limits{})
	b.ok("auth.test")
}
