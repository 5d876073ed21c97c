package emulator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

func TestPendingCardReadsAsAPersonWouldSeeIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.PutUser(emulator.User{ID: "U02REQ", Name: "rita"})
	b.post("text", "Approval needed: DELETE &lt;x&gt;", "blocks", fixture(t, "pending"))
	m := b.newest(channel)
	require.Equal(t, `Approval needed: billing-admin
Requested by payroll-bot for @rita · policy prod-delete · stage 1 of 2 (Security, 2 of 3)
DELETE https://billing.internal/v1/customers/42?hard=true
Content-Type: application/json
Authorization: [redacted]

{"reason":"gdpr erasure"}
Why (from the requester): `+`
> Customer asked for erasure <!channel> <https://evil.example|click>
Ticket
tkt_01k9…r7q2
Expires
2026-11-23 16:06 UTC
Approvals
1 of 2: @U0APPR1 (15:16 UTC)
Waiting for
@security
Request fingerprint 9f2c 11ab 77d0 4e5a · body 25 of 25 bytes shown · headers: 1 shown, 1 redacted
[Approve] [Deny…] [Ask for details…] [View full request]`, m.Text)
	require.Equal(t, "Approval needed: DELETE <x>", m.Summary)

	require.Len(t, m.Buttons, 4)
	approve, ok := m.Button("cs.approve")
	require.True(t, ok)
	require.Equal(t, "h_5f0c9c3e7f6e4b8aa1d2c07b94e61f38", approve.Value)
	require.Equal(t, "primary", approve.Style)
	require.Equal(t, "Go back", approve.Confirm.Deny)
	_, ok = m.Button("cs.bypass")
	require.False(t, ok)
}

func TestRenamingSomebodyShowsInOldMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("text", "ask <@U02ANA>")
	require.Equal(t, "ask @ana", b.newest(channel).Text)
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Name = "anita" })
	require.Equal(t, "ask @anita", b.newest(channel).Text)
}

func TestMarkupIsReadAsSlackReadsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tc := range map[string]struct {
		text, want string
		spans      []emulator.Span
	}{
		"bold":                    {"a *b c* d", "a b c d", []emulator.Span{{Kind: "text", Text: "a "}, {Kind: "text", Text: "b c", Bold: true}, {Kind: "text", Text: " d"}}},
		"nested":                  {"*_x_*", "x", []emulator.Span{{Kind: "text", Text: "x", Bold: true, Italic: true}}},
		"strike":                  {"~x~", "x", []emulator.Span{{Kind: "text", Text: "x", Strike: true}}},
		"not in a word":           {"snake_case_name 2*3*4", "snake_case_name 2*3*4", []emulator.Span{{Kind: "text", Text: "snake_case_name 2*3*4"}}},
		"unclosed":                {"*a", "*a", []emulator.Span{{Kind: "text", Text: "*a"}}},
		"code hides styles":       {"`*a*`", "*a*", []emulator.Span{{Kind: "text", Text: "*a*", Code: true}}},
		"entities":                {"&lt;b&gt; &amp;amp;", "<b> &amp;", []emulator.Span{{Kind: "text", Text: "<b> &amp;"}}},
		"escaped is not a link":   {"&lt;https://x.example|y&gt;", "<https://x.example|y>", nil},
		"link":                    {"<https://x.example/?a=1&amp;b=2|here>", "here", []emulator.Span{{Kind: "link", Text: "here", URL: "https://x.example/?a=1&b=2"}}},
		"bare link":               {"see https://x.example/a.", "see https://x.example/a.", []emulator.Span{{Kind: "text", Text: "see "}, {Kind: "link", Text: "https://x.example/a", URL: "https://x.example/a"}, {Kind: "text", Text: "."}}},
		"script link is text":     {"<javascript:alert(1)|x>", "<javascript:alert(1)|x>", []emulator.Span{{Kind: "text", Text: "<javascript:alert(1)|x>"}}},
		"mentions":                {"<@U02ANA|x> <#C01BILLING> <!subteam^S0ONCALL> <!here>", "@ana #billing-approvals @oncall @here", nil},
		"date":                    {"<!date^1795450000^{date} at {time}|fallback>", "fallback", []emulator.Span{{Kind: "date", Text: "fallback", Unix: 1795450000, Format: "{date} at {time}"}}},
		"date with link":          {"<!date^1795450000^{date}^https://x.example|f>", "f", []emulator.Span{{Kind: "date", Text: "f", Unix: 1795450000, Format: "{date}", URL: "https://x.example"}}},
		"emoji":                   {":white_check_mark: :nonsense: 16:06:01", "✅ :nonsense: 16:06:01", []emulator.Span{{Kind: "emoji", Text: "✅"}, {Kind: "text", Text: " :nonsense: 16:06:01"}}},
		"styles do not cut links": {"*<https://x.example|a*b> c*", "a*b c", []emulator.Span{{Kind: "link", Text: "a*b", URL: "https://x.example", Bold: true}, {Kind: "text", Text: " c", Bold: true}}},
		"styles stay on a line":   {"*a\nb*", "*a\nb*", nil},
		"odd fence":               {"a ``` b", "a ``` b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.post("text", tc.text)
			m := b.newest(channel)
			require.Equal(t, tc.want, m.Text)
			if tc.spans != nil {
				require.Equal(t, tc.spans, m.Parts[0].Flow[0].Spans)
			}
		})
	}
	b.post("text", "before\n&gt; quoted\n&gt; more\nafter\n```\n*code* <@U02ANA>\n```\nend")
	kinds := []string{}
	for _, p := range b.newest(channel).Parts[0].Flow {
		kinds = append(kinds, p.Kind)
	}
	require.Equal(t, []string{"p", "quote", "p", "pre", "p"}, kinds)
	require.Equal(t, "before\n> quoted\n> more\nafter\n*code* @ana\nend", b.newest(channel).Text)
}

func TestVerbatimTextDoesNotLinkURLs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("text", "t", "blocks", `[{"type":"section","text":{"type":"mrkdwn","text":"https://x.example","verbatim":true}}]`)
	require.Equal(t, "text", b.newest(channel).Parts[0].Flow[0].Spans[0].Kind)
}

func TestListsShowTheirMarkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("text", "t", "blocks", `[{"type":"rich_text","elements":[{"type":"rich_text_list","style":"ordered","indent":1,"offset":2,"elements":[
		{"type":"rich_text_section","elements":[{"type":"text","text":"x"}]},{"type":"rich_text_section","elements":[{"type":"link","url":"https://y.example"}]}]}]}]`)
	require.Equal(t, "  3. x\n  4. https://y.example", b.newest(channel).Text)
}

func TestMentionsRingAndUpdatesDoNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "look", "blocks", `[{"type":"section","text":{"type":"mrkdwn","text":"<!subteam^S0SECURITY> and <@U02ANA>"}}]`)
	require.Equal(t, "group", b.slack.Notifications(bo)[0].Reason)
	require.Equal(t, "look", b.slack.Notifications(bo)[0].Text, "the banner shows the top-level text")
	require.Equal(t, "mention", b.slack.Notifications(ana)[0].Reason)
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "<@U02ANA> again")
	require.Len(t, b.slack.Notifications(ana), 1)
	b.post("text", "reply", "thread_ts", ts)
	require.Equal(t, "thread", b.slack.Notifications(ana)[1].Reason, "who is named in the first message follows the thread")
	require.Len(t, b.slack.Notifications(bo), 1, "who is no longer named there does not")
}

func TestTextFromOthersInRichTextNeitherRingsNorLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("text", "t", "blocks", `[{"type":"rich_text","elements":[{"type":"rich_text_quote","elements":[{"type":"text","text":"<!channel> <https://evil.example|x> *b*"}]}]}]`)
	require.Equal(t, "> <!channel> <https://evil.example|x> *b*", b.newest(channel).Text)
	for _, u := range []string{ana, bo, "U02CHEN"} {
		require.Empty(t, b.slack.Notifications(u))
	}
}
