package emulator_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// responseURL presses a button and returns the message's ts and the path of the response_url.
func (b *bundle) responseURL() (ts, path string) {
	b.t.Helper()
	ts = b.post("text", "t", "blocks", fixture(b.t, "pending"))
	b.click(ts, "cs.deny")
	return ts, strings.TrimPrefix(b.app.last(b.t).payload["response_url"].(string), b.base)
}

func (b *bundle) respond(path, body string) (int, object) {
	b.t.Helper()
	status, _, answer := b.do("POST", path, "application/json", body)
	return status, decode(b.t, answer)
}

func TestResponseURLWhispersByDefaultWhereverThePersonIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, path := b.responseURL()
	b.slack.UpdateChannel(channel, func(c *emulator.Channel) { c.Members = nil })
	status, out := b.respond(path, `{"text":":no_entry: You have *already* decided."}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, out["ok"])
	require.Equal(t, "⛔ You have already decided.", b.slack.Ephemerals(bo)[0].Text)
	require.Equal(t, channel, b.slack.Ephemerals(bo)[0].Channel)
	require.Empty(t, b.slack.Ephemerals(ana))
	require.Len(t, b.slack.Messages(channel), 1)
}

func TestResponseURLCanPostReplaceAndDelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts, path := b.responseURL()
	b.respond(path, `{"response_type":"in_channel","text":"for all","thread_ts":"`+ts+`"}`)
	require.Equal(t, "for all", b.newest(channel).Text)
	require.Equal(t, ts, b.newest(channel).ThreadTS)
	b.respond(path, `{"replace_original":true,"text":"replaced"}`)
	require.Equal(t, "replaced", b.slack.Messages(channel)[0].Text)
	b.respond(path, `{"delete_original":true}`)
	require.Len(t, b.slack.Messages(channel), 1)
	status, out := b.respond(path, `{"replace_original":true,"text":"x"}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "message_not_found", out["error"])
}

func TestResponseURLReplacesAnEphemeral(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.ok("chat.postEphemeral", "channel", channel, "user", bo, "text", "t", "blocks", fixture(t, "pending"))["message_ts"].(string)
	b.click(ts, "cs.deny")
	path := strings.TrimPrefix(b.app.last(t).payload["response_url"].(string), b.base)
	b.respond(path, `{"replace_original":"true","text":"done"}`)
	require.Equal(t, "done", b.slack.Ephemerals(bo)[0].Text)
	b.respond(path, `{"delete_original":true}`)
	require.Empty(t, b.slack.Ephemerals(bo))
}

func TestResponseURLIsGoodForFiveUsesAndThirtyMinutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, path := b.responseURL()
	for range 5 {
		status, _ := b.respond(path, `{"text":"x"}`)
		require.Equal(t, http.StatusOK, status)
	}
	status, out := b.respond(path, `{"text":"x"}`)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "used_url", out["error"])
	require.Len(t, b.slack.Ephemerals(bo), 5)

	_, path = b.responseURL()
	b.clock.Advance(30*time.Minute + time.Second)
	status, out = b.respond(path, `{"text":"x"}`)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "expired_url", out["error"])
}

func TestResponseURLChecksWhatItIsGiven(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, path := b.responseURL()
	for body, want := range map[string]string{
		`{`:                               "invalid_json",
		`{"text":""}`:                     "no_text",
		`{"blocks":[{"type":"marquee"}]}`: "invalid_blocks",
		`{"text":"x","thread_ts":"1"}`:    "invalid_thread_ts",
	} {
		status, out := b.respond(path, body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, want, out["error"])
	}
	status, out := b.respond(path[:len(path)-1]+"x", `{"text":"x"}`)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "invalid_url", out["error"])
}
