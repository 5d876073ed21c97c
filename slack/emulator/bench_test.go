package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// poster posts cards straight to the handler, without a network in between.
type poster struct {
	s *emulator.Server
	n int
}

func (p *poster) post(ctx context.Context, thread string) {
	form := url.Values{"token": {"xoxb-emulator"}, "channel": {channel}, "text": {fmt.Sprintf("card %d", p.n)}, "thread_ts": {thread}}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/chat.postMessage", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	p.s.ServeHTTP(httptest.NewRecorder(), r)
	p.n++
}

// BenchmarkWatchedChannel posts into a channel of 5,000 messages that somebody watches with
// [emulator.Server.Wait]; the cost of one must not depend on how many there are.
func BenchmarkWatchedChannel(b *testing.B) {
	for _, size := range []int{50, 5000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := &poster{s: emulator.New(emulator.Config{Workspace: emulator.Demo()})}
			for range size {
				p.post(b.Context(), "")
			}
			b.ResetTimer()
			for range b.N {
				p.post(b.Context(), "")
				seen := p.s.Snapshot().Channels[0].Messages
				if len(seen) == 0 {
					b.Fatal("nothing was posted")
				}
			}
		})
	}
}

// BenchmarkThread replies in one thread of a channel that is watched.
func BenchmarkThread(b *testing.B) {
	p := &poster{s: emulator.New(emulator.Config{Workspace: emulator.Demo()})}
	p.post(b.Context(), "")
	parent := p.s.Messages(channel)[0].TS
	for range b.N {
		p.post(b.Context(), parent)
		p.s.Snapshot()
	}
}

func TestRule12SnapshotsStayAsTheyWereTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "one")
	early := b.slack.Messages(channel)
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "changed")
	second := b.post("text", "two", "thread_ts", ts)
	late := b.slack.Messages(channel)
	b.ok("chat.delete", "channel", channel, "ts", second)
	require.Len(t, early, 1)
	require.Equal(t, "one", early[0].Text)
	require.Len(t, late, 2)
	require.Equal(t, "changed", late[0].Text)
	require.Equal(t, 1, late[0].Replies)
	now := b.slack.Messages(channel)
	require.Len(t, now, 1)
	require.Zero(t, now[0].Replies)
	b.slack.UpdateUser("U0BOT", func(u *emulator.User) { u.Name = "renamed" })
	b.post("text", "hi <@U0BOT>")
	require.Equal(t, "hi @renamed", b.newest(channel).Text)
	require.Equal(t, "hi @renamed", b.slack.Snapshot().Channels[0].Messages[1].Text)
}

func TestRule12ALongChannelIsWatchedMessageByMessage(t *testing.T) {
	t.Parallel()
	p := &poster{s: emulator.New(emulator.Config{Workspace: emulator.Demo()})}
	const all = 5000
	go func() {
		for range all {
			p.post(t.Context(), "")
		}
	}()
	require.NoError(t, p.s.Wait(soon(t), func(s emulator.Snapshot) bool { return len(s.Channels[0].Messages) == all }))
}
