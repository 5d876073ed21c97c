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

func accountOf(m slack.Message) string {
	return block(m, "hash").(*slackgo.ContextBlock).ContextElements.Elements[0].(*slackgo.TextBlockObject).Text
}

func withBody(body string) func(*approvals.Submission, *approvals.Plan) {
	return func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Body = []byte(body) }
}

func shownRequest(m slack.Message) string {
	rich := block(m, "req").(*slackgo.RichTextBlock)
	return rich.Elements[0].(*slackgo.RichTextPreformatted).Elements[0].(*slackgo.RichTextSectionTextElement).Text
}

func TestABodyOf40kBIsApprovedFromTheFullViewAloneAndSaysSo(t *testing.T) {
	t.Parallel()
	body := `{"note":"` + strings.Repeat("x", 40_000) + `"}`
	m := slack.Card(pendingView(t, withBody(body)))
	require.NoError(t, slack.Lint(m))
	requireReviewed(t, pendingView(t, withBody(body)))
	require.Contains(t, textsOf(t, m.Blocks).all(), "*It is too long to be shown here in full:* Review… opens all of it, and it is approved from there.")
	_, shown, _ := strings.Cut(shownRequest(m), "\n\n")
	require.Contains(t, accountOf(m), "body "+thousands(len(shown))+" of 40,011 bytes shown")
	require.True(t, strings.HasPrefix(body, shown))
	golden(t, "card_too_long", map[string]any{"text": m.Text, "blocks": m.Blocks[3:]})
}

// thousands writes a number of four digits as cards do.
func thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

func TestABodyOf7kBCanBeApproved(t *testing.T) {
	t.Parallel()
	m := slack.Card(pendingView(t, withBody(strings.Repeat("x", 7000))))
	require.NoError(t, slack.Lint(m))
	require.Equal(t, []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk, slack.ActionView}, buttons(m))
	require.Contains(t, accountOf(m), "body 7,000 of 7,000 bytes shown")
}

func TestACutNeverGoesThroughACharacterOrItsSpelling(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"語", "👍", "👩‍👧", "\u202e", "\xff", "é", "a\u0301", "🇩🇪"} {
		for lead := range 8 {
			body := strings.Repeat("a", lead) + strings.Repeat(unit, 12_000)
			v := pendingView(t, withBody(body))
			m := slack.Card(v)
			require.NoError(t, slack.Lint(m))
			shown := shownRequest(m)
			require.True(t, utf8.ValidString(shown))
			require.NotRegexp(t, `\\(u[0-9a-f]{0,3}|U[0-9a-f]{0,7}|x[0-9a-f]?|)$`, shown)
			require.False(t, slack.Offers(v, slack.ActionApprove))
		}
	}
}

// requireReviewed demands that an approval of a view is given from the full view alone.
func requireReviewed(t *testing.T, v slack.View) {
	t.Helper()
	m := slack.Card(v)
	require.NoError(t, slack.Lint(m))
	require.True(t, slack.NeedsReview(v))
	require.Contains(t, buttons(m), slack.ActionApprove)
	first := block(m, "act").(*slackgo.ActionBlock).Elements.ElementSet[0].(*slackgo.ButtonBlockElement)
	require.Equal(t, "Review…", first.Text.Text)
	require.Nil(t, first.Confirm)
	require.Contains(t, textsOf(t, m.Blocks).all(), "it is approved from there")
}

// Whatever is too long to show is approved where it is not, wherever it is.
func TestFieldNote10WhatACardDoesNotShowInFullCannotBeApprovedFromIt(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 12_000)
	for name, edit := range map[string]func(*approvals.Submission, *approvals.Plan){
		"body":    withBody(long),
		"path":    func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Path = "/" + long },
		"query":   func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Query = long },
		"method":  func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Method = long },
		"header":  func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Headers[0].Value = long },
		"headers": func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Headers = make([]approvals.Header, 9000) },
		"name":    func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Headers[1].Name = "token" + long },
		"why":     func(s *approvals.Submission, _ *approvals.Plan) { s.Justification = long[:4000] },
		"behalf":  func(s *approvals.Submission, _ *approvals.Plan) { s.OnBehalfOf = long[:400] },
		"callback": func(s *approvals.Submission, _ *approvals.Plan) {
			s.Callback.URL = "https://x.example/" + long[:1000]
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := pendingView(t, edit)
			requireReviewed(t, v)
			require.False(t, slack.ShowsAll(v))
			require.False(t, slack.Offers(v, slack.ActionApprove))
		})
	}
}

func TestATicketWhoseBytesAreNotThoseOfItsDigestCannotBeApproved(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(*approvals.Ticket){
		"body missing":   func(x *approvals.Ticket) { x.Call.Body = nil },
		"header missing": func(x *approvals.Ticket) { x.Call.Headers = nil },
		"path":           func(x *approvals.Ticket) { x.Call.Path += "0" },
		"digest":         func(x *approvals.Ticket) { x.Digest = strings.Repeat("0", 64) },
		"no digest":      func(x *approvals.Ticket) { x.Digest = "" },
		"callback":       func(x *approvals.Ticket) { x.Callback = nil },
		"upstream":       func(x *approvals.Ticket) { x.Plan.UpstreamDigest = "u2" },
	} {
		v := pendingView(t, nil)
		tamper(&v.Ticket)
		m := slack.Card(v)
		require.Equal(t, []string{slack.ActionDeny, slack.ActionAsk, slack.ActionView}, buttons(m), name)
		require.Contains(t, textsOf(t, m.Blocks).all(), "does not have the fingerprint of what was submitted", name)
		require.NoError(t, slack.Lint(m), name)
	}
}

func TestTwoDifferentRequestsNeverLookTheSame(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	redacted := func(value string) func(*approvals.Submission, *approvals.Plan) {
		return func(s *approvals.Submission, p *approvals.Plan) {
			s.Call.Body, p.Redact = []byte(`{"pin":"`+value+`"}`), []string{"body.pin"}
		}
	}
	long := strings.Repeat("x", 40_000)
	for name, edit := range map[string]func(*approvals.Submission, *approvals.Plan){
		"one": nil, "pin 1": redacted("1"), "pin 2": redacted("2"), "long a": withBody(long + "a"), "long b": withBody(long + "b"),
		"escape": withBody("\u202e"), "its spelling": withBody(`\u202e`),
		"secret": func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Headers[1].Value = "other" },
	} {
		x := textsOf(t, slack.Card(pendingView(t, edit)).Blocks).all()
		require.NotContains(t, seen, x, "%s and %s", name, seen[x])
		seen[x] = name
	}
}
