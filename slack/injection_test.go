package slack_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

// hostile are texts that try to be more than text.
var hostile = []string{
	"<https://evil.example|click here>", "<!channel>", "<!here|x>", "<@U02BO>", "<#C01BILLING>", "<!subteam^S0SECURITY>",
	"<!date^1^{date}|approved>", "https://evil.example/login", "evil.example", "```\nApproved by *security*\n```", "`code`",
	"*bold* _it_ ~no~", ":white_check_mark: Approved", "&lt;!channel&gt;", "&amp;lt;", "@channel @here @bo", "> quoted",
	"a\u202egnp.exe", "a\u2066b\u2069", "\u200b\u200c\u200d", "\ufeff", "\u00ad", "a\u2028b\u2029c", "\x00\x01\x1b[31m\x7f", "\u0085\u009b",
	"\u115f\u3164\u2800", "\U000e0041\U000e0042", "\ufe0f\U000e0100", "\ue000", "\u00a0\u2003", "\u0301\u0301\u0301\u0301\u0301\u0301",
	"\xff\xfe", "\xed\xa0\x80", "日本語のテキスト", "👩‍👩‍👧‍👦 🇩🇪", "line\nbreak\r\nand\ttab", "Fingerprint `0000 0000 0000 0000`", `"}]},{"type":"actions"`,
}

// everywhere puts a text in every place that a caller or approver fills.
func everywhere(t *testing.T, text string) []slack.View {
	t.Helper()
	s := submission()
	s.OnBehalfOf, s.Justification = text, text
	s.Call.Method, s.Call.Path, s.Call.Query = text, "/"+text, "q="+text
	s.Call.Headers = []approvals.Header{{Name: "X-" + text, Value: text}}
	s.Call.Body = []byte(text)
	s.Callback = &approvals.Callback{URL: "https://" + text}
	pending := submitted(t, s, plan())
	unknown := finished(t, executing(t, approved(t, pending, "bo", "chen")), approvals.Outcome{
		Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "timeout", Detail: "no answer"},
	})
	unknown.Problem.Detail = text
	denied := decided(t, pending, "bo", approvals.Deny, "no")
	denied.Decisions[0].Comment = text
	glass := broken(t, submitted(t, s, breakable()), "no time")
	glass.Decisions[0].Comment = text
	return []slack.View{
		viewOf(pending, 0), viewOf(approved(t, pending, "bo", "chen"), 0), viewOf(unknown, 0), viewOf(denied, 0), viewOf(glass, 0),
		inquiry(t, pending, text),
	}
}

// inquiry is a view with a question, an answer and a comment of the same text.
func inquiry(t *testing.T, pending approvals.Ticket, text string) slack.View {
	t.Helper()
	pending = decided(t, pending, "chen", approvals.Approve, "fine")
	pending.Decisions[0].Comment = text
	once, question := replied(t, asked(t, pending, "why"), "because")
	once = asked(t, once, "why then")
	once.Question.Text, question.Text, question.Answer = text, text, text
	v := viewOf(once, 0)
	v.Answered = []approvals.Question{question}
	return v
}

func messagesOf(v slack.View) []slack.Message {
	said := approvals.Question{Person: "bo", Text: "?", Answer: "!"}
	for _, q := range v.Answered {
		said = q
	}
	broken := approvals.Decision{Person: "dev", Verdict: approvals.GlassBroken, Comment: "!"}
	for _, d := range v.Ticket.Decisions {
		broken.Person, broken.Comment = d.Person, d.Comment
	}
	return []slack.Message{
		slack.Card(v), slack.Plain(v), slack.Reminder(v, 1), slack.Escalation(v, escalationOf(v, 1)), slack.Asked(v, said),
		slack.Answered(v, said, approvals.Actor{Kind: approvals.ActorCaller, Name: v.Ticket.Caller}), slack.Stalled(v, "2 approvals are needed"),
		slack.AskedAgain(v, "an approval no longer stands"), slack.GlassBroken(v, broken),
		slack.OutcomeNotice(v), slack.AnswerRequest(v, said), slack.Listing("Waiting for you", []slack.HomeItem{{View: v, Handle: v.Handle}}, v.Now),
	}
}

func TestFieldNote04WhatOthersWroteIsNeverInterpreted(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		require.Equal(t, mrkdwnOf(t, everywhere(t, "harmless")), mrkdwnOf(t, everywhere(t, text)), "%q", text)
	}
}

// mrkdwnOf is all that Slack interprets in the messages of the views, without what differs
// between any two requests.
func mrkdwnOf(t *testing.T, views []slack.View) (out []string) {
	t.Helper()
	for _, v := range views {
		for _, m := range messagesOf(v) {
			for _, text := range textsOf(t, m.Blocks).mrkdwn {
				text = strings.ReplaceAll(text, v.Fingerprint, "F")
				if account, ok := strings.CutPrefix(text, "Request fingerprint"); ok {
					require.Regexp(t, `^[ F·a-z0-9,:\x60\\…]*$`, account)
					continue
				}
				out = append(out, text)
			}
		}
	}
	return out
}

// The reasons of stalls and of second rounds are ours, but name rules and people.
func TestNamesInReasonsAreEscaped(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	for _, m := range []slack.Message{
		slack.Stalled(v, "<!channel> "+strings.Repeat("&", 9000)), slack.AskedAgain(v, "rule <!channel>\n"+strings.Repeat("&", 9000)),
		slack.Escalation(v, approvals.Data{Reason: "<!channel> " + strings.Repeat("&", 9000)}),
	} {
		require.NoError(t, slack.Lint(m))
		require.NotContains(t, said(m), "<!channel>")
		require.Contains(t, said(m), "&lt;!channel&gt;")
	}
	v.Ticket.Stalled = &approvals.Stall{Reason: "<!channel>" + strings.Repeat("&", 9000)}
	require.NoError(t, slack.Lint(slack.Card(v)))
	require.NotContains(t, textsOf(t, slack.Card(v).Blocks).all(), "<!channel>")
}

func TestNothingInvisibleIsShownAsItIs(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		for _, v := range everywhere(t, text) {
			for _, m := range messagesOf(v) {
				shown := textsOf(t, m.Blocks).all() + m.Text
				for _, r := range shown {
					require.False(t, invisible(r), "%q shows %U", text, r)
				}
				require.True(t, utf8.ValidString(shown))
			}
		}
	}
}

func invisible(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r <= 0xa0, r == 0xad, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x3164, r == 0x2800:
		return true
	case r >= 0x2000 && r <= 0x200f, r >= 0x2028 && r <= 0x202f, r >= 0x205f && r <= 0x206f:
		return true
	case r == 0xfeff, r >= 0xfe00 && r <= 0xfe0f, r >= 0xe000 && r <= 0xf8ff, r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}

func TestInvisibleCharactersAreSpelledOutAndCounted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\u202eb": `a\u202eb`, "\u200b": `\u200b`, "\x1b": `\u001b`, "\u0085": `\u0085`, "\r\n": `\u000d` + "\n", "\xff": `\xff`,
		"\U000e0041": `\U000e0041`, "e\u0301": "e\u0301", "\u0301\u0301\u0301\u0301": "\u0301\u0301\u0301" + `\u0301`, "日本\u3000語": "日本\u3000語",
		"👍": "👍", "\ufffd": "\ufffd", "\u00a0": `\u00a0`,
	} {
		v := pendingView(t, func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Body = []byte(text) })
		x := textsOf(t, slack.Card(v).Blocks)
		require.Contains(t, x.all(), "[redacted]\n\n"+want, "%q", text)
		require.Equal(t, strings.Contains(want, `\`), strings.Contains(x.all(), "spelled out"), "%q", text)
	}
}

func TestAnAddressIsShownInASCII(t *testing.T) {
	t.Parallel()
	v := pendingView(t, func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Path = "/cust\u043emers/42\n\nX: y" })
	require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), `DELETE https://billing.internal/v1/cust\u043emers/42\u000a\u000aX: y?hard=true`+"\n")
}

func TestAPasswordInABaseURLIsNotShown(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.BaseURL = "https://user:canary@billing.internal/v1/?k=canary#canary"
	m := slack.Card(v)
	require.NotContains(t, pretty(t, m), "canary")
	require.Contains(t, textsOf(t, m.Blocks).all(), "DELETE https://billing.internal/v1/customers/42?hard=true")
}

func TestAnUnknownBaseURLShowsTheUpstreamsName(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "::", "/v1"} {
		v := pendingView(t, nil)
		v.BaseURL = base
		require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), "DELETE billing-admin:/customers/42?hard=true", base)
	}
}

func TestConfiguredNamesAreEscapedInMrkdwn(t *testing.T) {
	t.Parallel()
	v := pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
		s.Caller, p.Rule, p.Stages[0].Name = "<!channel>&", "r`<x>`", strings.Repeat("&", 200)
	})
	who := block(slack.Card(v), "who").(*slackgo.SectionBlock).Text.Text
	require.Contains(t, who, "*&lt;!channel&gt;&amp;*")
	require.Contains(t, who, "`r'&lt;x&gt;'`")
	require.Contains(t, who, "("+strings.Repeat("&amp;", 11)+"…,")
	require.NotContains(t, slack.Card(v).Text, "<")
}

func TestIdsThatAreNoneAreNotMentioned(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Directory.People = map[string]approvals.Person{"bo": {Name: "bo", Slack: "!channel"}, "chen": {Name: "chen", Slack: "U1> <!here"}, "eve": {Name: "eve", Slack: "S0SECURITY"}}
	require.NotContains(t, textsOf(t, slack.Card(v).Blocks).all(), "<!channel")
	require.NotContains(t, textsOf(t, slack.Card(v).Blocks).all(), "<!here")
	require.NotContains(t, textsOf(t, slack.Card(v).Blocks).all(), "subteam")
}

func TestALinkIsOnlyMadeOfAnAddressThatCanBeOne(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"", "https://x.example/|a", "https://x.example/><!channel>", "https://x.example/ y", "https://x/" + strings.Repeat("a", 300)} {
		v := pendingView(t, nil)
		v.PublicURL = public
		facts := block(slack.Card(v), "facts").(*slackgo.SectionBlock)
		require.Equal(t, "*Ticket*\ntkt_01k9…r7q4", facts.Fields[0].Text, public)
	}
}

func TestTheEmulatorShowsHostileTextLiterally(t *testing.T) {
	t.Parallel()
	emu, client := workspace(t)
	for i, text := range hostile {
		for _, v := range everywhere(t, text) {
			for _, m := range messagesOf(v) {
				_, err := client.Post(t.Context(), channel, m, slack.PostOptions{})
				require.NoError(t, err, "%q", text)
			}
		}
		require.NotEmpty(t, emu.Messages(channel), fmt.Sprint(i))
	}
	for _, n := range emu.Notifications("U02DEV") {
		require.NotContains(t, n.Text, "evil.example/login>")
	}
	v := pendingView(t, func(s *approvals.Submission, _ *approvals.Plan) { s.Justification = "<!channel> <@U02BO>" })
	ref, err := client.Post(t.Context(), channel, slack.Card(v), slack.PostOptions{})
	require.NoError(t, err)
	all := emu.Messages(channel)
	require.Equal(t, ref.TS, all[len(all)-1].TS)
	require.Contains(t, all[len(all)-1].Text, "<!channel> <@U02BO>")
}
