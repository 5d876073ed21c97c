package slack_test

import (
	"strings"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/slack"
)

func plainObject(n int) *slackgo.TextBlockObject {
	return slackgo.NewTextBlockObject(slackgo.PlainTextType, strings.Repeat("x", n), false, false)
}

func TestLintReportsWhatSlackWouldRefuse(t *testing.T) {
	t.Parallel()
	head := func(n int, id string) slackgo.Block {
		return slackgo.NewHeaderBlock(plainObject(n), slackgo.HeaderBlockOptionBlockID(id))
	}
	button := func(edit func(*slackgo.ButtonBlockElement)) []slackgo.Block {
		b := slackgo.NewButtonBlockElement("a", "v", plainObject(5))
		edit(b)
		return []slackgo.Block{slackgo.NewActionBlock("act", b)}
	}
	many := func(n int) (out []slackgo.Block) {
		for i := range n {
			out = append(out, head(1, strings.Repeat("i", i+1)))
		}
		return out
	}
	for name, blocks := range map[string][]slackgo.Block{
		"no blocks":         nil,
		"51 blocks":         many(51),
		"long header":       {head(151, "a")},
		"empty header":      {head(0, "a")},
		"same id":           {head(1, "a"), head(1, "a")},
		"no id":             {head(1, "")},
		"long id":           {head(1, strings.Repeat("a", 256))},
		"long section":      {slackgo.NewSectionBlock(plainObject(3001), nil, nil, slackgo.SectionBlockOptionBlockID("a"))},
		"empty section":     {slackgo.NewSectionBlock(nil, nil, nil, slackgo.SectionBlockOptionBlockID("a"))},
		"long field":        {slackgo.NewSectionBlock(nil, []*slackgo.TextBlockObject{plainObject(2001)}, nil, slackgo.SectionBlockOptionBlockID("a"))},
		"empty context":     {slackgo.NewContextBlock("a")},
		"empty actions":     {slackgo.NewActionBlock("a")},
		"two of one action": {slackgo.NewActionBlock("a", slackgo.NewButtonBlockElement("a", "", plainObject(1)), slackgo.NewButtonBlockElement("a", "", plainObject(1)))},
		"a divider":         {&slackgo.DividerBlock{Type: slackgo.MBTDivider, BlockID: "a"}},
		"empty rich text":   {slackgo.NewRichTextBlock("a")},
		"a user that is no id": {slackgo.NewRichTextBlock("a", slackgo.NewRichTextSection(
			slackgo.NewRichTextSectionUserElement("channel", nil)))},
		"too much text": {slackgo.NewRichTextBlock("a", slackgo.NewRichTextSection(
			slackgo.NewRichTextSectionTextElement(strings.Repeat("👍", 5001), nil)))},
		"long button": button(func(b *slackgo.ButtonBlockElement) { b.Text = plainObject(76) }),
		"long value":  button(func(b *slackgo.ButtonBlockElement) { b.Value = strings.Repeat("x", 2001) }),
		"long label":  button(func(b *slackgo.ButtonBlockElement) { b.AccessibilityLabel = strings.Repeat("x", 76) }),
		"long confirm": button(func(b *slackgo.ButtonBlockElement) {
			b.Confirm = slackgo.NewConfirmationBlockObject(plainObject(1), plainObject(301), plainObject(1), plainObject(1))
		}),
		"half a confirm": button(func(b *slackgo.ButtonBlockElement) {
			b.Confirm = slackgo.NewConfirmationBlockObject(plainObject(1), plainObject(1), plainObject(1), nil)
		}),
	} {
		require.Error(t, slack.Lint(slack.Message{Text: "x", Blocks: blocks}), name)
	}
	require.Error(t, slack.Lint(slack.Message{Blocks: many(1)}))
	require.Error(t, slack.Lint(slack.Message{Text: strings.Repeat("x", 4001), Blocks: many(1)}))
	require.NoError(t, slack.Lint(slack.Message{Text: "x", Blocks: many(50)}))
}

func TestLintModalReportsWhatSlackWouldRefuse(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*slackgo.ModalViewRequest){
		"title":    func(v *slackgo.ModalViewRequest) { v.Title = plainObject(25) },
		"no title": func(v *slackgo.ModalViewRequest) { v.Title = nil },
		"submit":   func(v *slackgo.ModalViewRequest) { v.Submit = plainObject(25) },
		"nosubmit": func(v *slackgo.ModalViewRequest) { v.Submit = nil },
		"metadata": func(v *slackgo.ModalViewRequest) { v.PrivateMetadata = strings.Repeat("x", 3001) },
		"blocks":   func(v *slackgo.ModalViewRequest) { v.Blocks.BlockSet = nil },
		"twice":    func(v *slackgo.ModalViewRequest) { v.Blocks.BlockSet = append(v.Blocks.BlockSet, v.Blocks.BlockSet[0]) },
		"input": func(v *slackgo.ModalViewRequest) {
			v.Blocks.BlockSet[2].(*slackgo.InputBlock).Element.(*slackgo.PlainTextInputBlockElement).MinLength = 3001
		},
	} {
		view := slack.DenyModal(pendingView(t, reasoned))
		edit(&view)
		require.Error(t, slack.LintModal(view), name)
	}
}

// anyText draws short and long text, with everything that is awkward about text in it.
func anyText(r *rapid.T, label string) string {
	pieces := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(hostile), rapid.String()), 0, 4).Draw(r, label)
	return strings.Repeat(strings.Join(pieces, ""), rapid.SampledFrom([]int{1, 1, 1, 50, 1000}).Draw(r, label+" times"))
}

func anyTicket(r *rapid.T) approvals.Ticket {
	text := func(label string) string { return anyText(r, label) }
	x := approvals.Ticket{
		ID: rapid.SampledFrom([]string{ticketID, text("id")}).Draw(r, "ticket"), Caller: text("caller"), OnBehalfOf: text("behalf"),
		Justification: text("why"), State: rapid.SampledFrom(append(approvals.States(), "odd")).Draw(r, "state"),
		Stage: rapid.IntRange(0, 3).Draw(r, "stage"), Digest: text("digest"), ExpiresAt: start,
		CallbackState: rapid.SampledFrom(approvals.CallbackStates()).Draw(r, "callback"),
	}
	x.Call = approvals.Call{Upstream: text("upstream"), Method: text("method"), Path: text("path"), Query: text("query"), Body: []byte(text("body"))}
	for range rapid.IntRange(0, 3).Draw(r, "headers") {
		x.Call.Headers = append(x.Call.Headers, approvals.Header{Name: text("name"), Value: text("value")})
	}
	x.Plan = approvals.Plan{Rule: text("rule"), Redact: []string{"body." + text("redact"), text("redact")}}
	for range rapid.IntRange(0, 3).Draw(r, "stages") {
		x.Plan.Stages = append(x.Plan.Stages, approvals.Stage{Name: text("stage"), Need: []approvals.ApproverSet{
			{From: []string{text("from"), "security", "everybody"}, Approvals: 2}, {From: []string{text("from")}, Approvals: 1},
		}})
	}
	x.Plan.Redact = x.Plan.Redact[:rapid.IntRange(0, 2).Draw(r, "rules")]
	for i := range x.Plan.Stages {
		x.Plan.Stages[i].Round, x.Plan.Stages[i].Channel = i, text("channel")
		x.Plan.Stages[i].Comment = rapid.SampledFrom([]approvals.CommentRule{"", approvals.CommentApprove, approvals.CommentDeny, approvals.CommentBoth, "odd"}).Draw(r, "comment")
	}
	x.Plan.Live = map[string]string{"security": rapid.SampledFrom([]string{"S0SECURITY", text("group")}).Draw(r, "live")}
	x.Tiers = make([]int, len(x.Plan.Stages))
	for range rapid.IntRange(0, 30).Draw(r, "decisions") {
		x.Decisions = append(x.Decisions, approvals.Decision{
			Person: rapid.SampledFrom([]string{"bo", "chen", text("person")}).Draw(r, "by"), Comment: text("comment"),
			For: rapid.SampledFrom([]string{"", "", "eve", text("place")}).Draw(r, "for"), Stage: rapid.IntRange(-1, 3).Draw(r, "in stage"),
			Verdict: rapid.SampledFrom(append(approvals.Verdicts(), "odd")).Draw(r, "verdict"), At: start,
		})
	}
	if rapid.Bool().Draw(r, "more") {
		x.Question = &approvals.Question{Person: text("asker"), Text: text("question")}
		x.Problem = &approvals.Problem{Code: text("code"), Detail: text("detail")}
		x.Result = &approvals.ResultSummary{Status: 200, DurationMS: 1 << 40}
		x.Callback = &approvals.Callback{URL: text("url")}
	}
	if rapid.Bool().Draw(r, "later") {
		x.Plan.BreakGlass = &approvals.BreakGlass{From: []string{"bo"}, Announce: text("announce")}
		x.Questions, x.Supersedes, x.SupersededBy = rapid.IntRange(0, 20).Draw(r, "questions"), text("old"), text("new")
		x.NotBefore = start.Add(time.Duration(rapid.IntRange(-1, 1).Draw(r, "hour")) * time.Hour)
		x.Stalled, x.ApprovedAt = &approvals.Stall{Reason: text("stalled")}, start
	}
	if rapid.Bool().Draw(r, "bound") {
		x.Digest = x.Binding(x.Plan.UpstreamDigest).Digest()
	}
	return x
}

func TestAnyTicketRendersWithinTheLimitsAndSlackTakesIt(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	rapid.Check(t, func(r *rapid.T) {
		ticket := anyTicket(r)
		v := viewOf(ticket, rapid.IntRange(-1, 3).Draw(r, "card"))
		v.Confirm = rapid.SampledFrom(append(approvals.Confirms(), "odd")).Draw(r, "confirm")
		v.Reader, v.Permalink = rapid.SampledFrom([]string{"", "bo"}).Draw(r, "reader"), rapid.SampledFrom([]string{"", permalink, anyText(r, "link")}).Draw(r, "permalink")
		v.Fingerprint = rapid.SampledFrom([]string{"", v.Fingerprint, anyText(r, "print")}).Draw(r, "fingerprint")
		for range rapid.IntRange(0, 5).Draw(r, "answers") {
			v.Answered = append(v.Answered, approvals.Question{Person: anyText(r, "asker"), Text: anyText(r, "question"), Answer: anyText(r, "answer")})
		}
		for _, m := range messagesOf(v) {
			if err := slack.Lint(m); err != nil {
				r.Fatalf("lint: %v", err)
			}
			if _, err := client.Post(t.Context(), channel, m, slack.PostOptions{}); err != nil {
				r.Fatalf("post: %v", err)
			}
		}
		for _, action := range []string{slack.ActionDeny, slack.ActionAsk, slack.ActionBreakGlass, slack.ActionAnswer} {
			m, _ := slack.Modal(v, action)
			if err := slack.LintModal(m); err != nil {
				r.Fatalf("modal %s: %v", action, err)
			}
		}
		review := slack.NewReview(v)
		for _, page := range []int{1, 2, review.Pages()} {
			if err := slack.LintModal(review.Modal(reviewHandle, page, slack.ReviewApprove)); err != nil {
				r.Fatalf("page %d: %v", page, err)
			}
		}
		items := times(21, slack.HomeItem{View: v, Handle: handle, Permalink: v.Permalink, Note: anyText(r, "note")})
		if err := slack.LintHome(slack.Home(slack.HomeTab{Waiting: items, Asked: items, Requests: items, Now: start})); err != nil {
			r.Fatalf("home: %v", err)
		}
		if err := slack.Lint(slack.Listing(anyText(r, "title"), items, start)); err != nil {
			r.Fatalf("listing: %v", err)
		}
	})
}
