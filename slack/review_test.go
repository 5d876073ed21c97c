package slack_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/slack"
)

const reviewHandle = "v_0123456789abcdef0123456789abcdef"

func longBody(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "{\"line\":%d,\"text\":\"日本語 👍 e\u0301\"}\n", i)
	}
	return b.String()
}

func withConfirm(v slack.View, c approvals.Confirm) slack.View {
	v.Confirm = c
	return v
}

func TestEveryPageOfAReviewIsAsReviewed(t *testing.T) {
	t.Parallel()
	long := pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
		s.Call.Body, p.Stages[0].Comment = []byte(longBody(20_000)), approvals.CommentApprove
	})
	hidden := pendingView(t, redacting(`{"ssn":"canary","a":1}`, "body.ssn"))
	unclear := pendingView(t, redacting(`not JSON: canary`, "body.ssn"))
	for name, test := range map[string]struct {
		v     slack.View
		page  int
		offer slack.ReviewOffer
	}{
		"one_page":  {withConfirm(hidden, approvals.ConfirmModal), 1, slack.ReviewApprove},
		"first":     {long, 1, slack.ReviewApprove},
		"last":      {long, 99, slack.ReviewApprove},
		"code":      {withConfirm(hidden, approvals.ConfirmCode), 1, slack.ReviewApprove},
		"only":      {hidden, 1, slack.ReviewOnly},
		"final":     {states(t)["succeeded"], 1, slack.ReviewOnly},
		"obstacle":  {unclear, 1, slack.ReviewApprove},
		"last_only": {long, 99, slack.ReviewOnly},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := slack.NewReview(test.v).Modal(reviewHandle, test.page, test.offer)
			require.NoError(t, slack.LintModal(m))
			require.NotContains(t, pretty(t, m), "canary")
			golden(t, "review_"+name, m)
		})
	}
}

// readOf is what somebody reads who turns all pages: in order, without what is ours.
func readOf(r slack.Review) (read string, chunks []string) {
	for page := 1; page <= r.Pages(); page++ {
		for _, b := range r.Modal(reviewHandle, page, slack.ReviewOnly).Blocks.BlockSet {
			rich, ok := b.(*slackgo.RichTextBlock)
			if !ok {
				continue
			}
			var inline []slackgo.RichTextSectionElement
			for _, e := range rich.Elements {
				switch e := e.(type) {
				case *slackgo.RichTextPreformatted:
					inline = append(inline, e.Elements...)
				case *slackgo.RichTextQuote:
					inline = append(inline, e.Elements...)
				}
			}
			for _, in := range inline {
				chunks = append(chunks, in.(*slackgo.RichTextSectionTextElement).Text)
			}
		}
	}
	return strings.Join(chunks, ""), chunks
}

var spelling = regexp.MustCompile(`\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})`)

// unspelled turns what people read back into bytes. It is right for texts that hold no
// backslashes of their own.
func unspelled(t require.TestingT, text string) string {
	return spelling.ReplaceAllStringFunc(text, func(s string) string {
		n, err := strconv.ParseInt(s[2:], 16, 32)
		require.NoError(t, err)
		if s[1] == 'x' {
			return string([]byte{byte(n)}) //nolint:gosec // two digits
		}
		return string(rune(n))
	})
}

func TestThePagesOfAReviewAreTheWholeRequestByteForByte(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := func(label string) string { return strings.ReplaceAll(anyText(r, label), `\`, "/") }
		s, p := submission(), plan()
		s.Call.Body, s.Call.Path, s.Call.Query = []byte("x"+text("body")), "/"+text("path"), "q="+text("query")
		s.Call.Headers = []approvals.Header{{Name: "X-" + text("name"), Value: text("value")}}
		s.Call.Headers[0].Name = regexp.MustCompile(`(?i)authorization|cookie|token|secret|key|password|credential`).ReplaceAllString(s.Call.Headers[0].Name, "")
		s.Justification, s.OnBehalfOf = "y"+text("why"), "z"+text("behalf")
		ticket := harmlessly(s, p)
		v := viewOf(ticket, 0)
		review := slack.NewReview(v)
		require.Empty(r, review.Obstacle())
		read, chunks := readOf(review)
		want := s.Call.Method + " https://billing.internal/v1" + s.Call.Path + "?" + s.Call.Query + "\n" +
			s.Call.Headers[0].Name + ": " + s.Call.Headers[0].Value + "\n\n" + string(s.Call.Body) + s.Justification + s.OnBehalfOf + s.Callback.URL
		require.Equal(r, want, unspelled(r, read))
		for i, c := range chunks {
			requireWhole(r, c, i > 0 && chunks[i-1] != "")
		}
	})
}

// requireWhole demands that nothing is parted at the ends of a piece of text.
func requireWhole(t require.TestingT, c string, goesOn bool) {
	require.True(t, utf8.ValidString(c))
	require.LessOrEqual(t, len(c), 9000)
	require.LessOrEqual(t, utf8.RuneCountInString(c), 2400)
	require.NotRegexp(t, `\\(x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})$`, c)
	require.NotRegexp(t, `\[(r|re|red|reda|redac|redact|redacte|redacted)$`, c)
	first, _ := utf8.DecodeRuneInString(c)
	if goesOn {
		require.False(t, unicode.In(first, unicode.Mn, unicode.Me), "%q", c[:min(len(c), 20)])
	}
}

// harmlessly is [submitted] for tests without a *testing.T.
func harmlessly(s approvals.Submission, p approvals.Plan) approvals.Ticket {
	tr, err := approvals.Submit(submission(), p, directory(), start)
	if err != nil {
		panic(err)
	}
	ticket := tr.Ticket
	ticket.Call, ticket.OnBehalfOf, ticket.Justification, ticket.Callback = s.Call, s.OnBehalfOf, s.Justification, s.Callback
	ticket.Digest = ticket.Binding(p.UpstreamDigest).Digest()
	return ticket
}

var position = regexp.MustCompile(`^Page ([0-9,]+) of ([0-9,]+) · bytes ([0-9,]+)–([0-9,]+) of ([0-9,]+) · fingerprint `)

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(s, ",", ""))
	require.NoError(t, err)
	return n
}

func TestEveryPageSaysWhichBytesItShowsOfHowMany(t *testing.T) {
	t.Parallel()
	r := slack.NewReview(pendingView(t, withBody(longBody(61_000))))
	read, _ := readOf(r)
	require.Greater(t, r.Pages(), 6)
	at := 0
	for page := 1; page <= r.Pages(); page++ {
		m := r.Modal(reviewHandle, page, slack.ReviewApprove)
		said := position.FindStringSubmatch(m.Blocks.BlockSet[0].(*slackgo.ContextBlock).ContextElements.Elements[0].(*slackgo.TextBlockObject).Text)
		require.NotNil(t, said)
		require.Equal(t, []int{page, r.Pages(), at + 1}, []int{number(t, said[1]), number(t, said[2]), number(t, said[3])})
		at = number(t, said[4])
		require.Equal(t, len(read), number(t, said[5]))
	}
	require.Equal(t, len(read), at)
}

func TestAReviewIsTheSameWhoeverLooksAtItAndWhenever(t *testing.T) {
	t.Parallel()
	v := pendingView(t, withBody(longBody(20_000)))
	want := slack.NewReview(v)
	other := v
	other.Now, other.Handle, other.Directory, other.Mention, other.Reader = start.Add(time.Hour), "", approvals.Directory{}, []string{"U02BO"}, "bo"
	other.Tally.Have, other.Permalink = 1, "https://acme.slack.com/archives/C1/p1"
	require.Equal(t, string(want.JSON()), string(slack.NewReview(other).JSON()))
	require.Equal(t, want.Hash(), slack.NewReview(other).Hash())
	require.Regexp(t, `^[0-9a-f]{64}$`, want.Hash())
	require.Equal(t, want.Hash(), slack.NewReview(viewOf(approved(t, v.Ticket, "bo"), 0)).Hash(), "whoever has approved meanwhile")
	for name, edit := range map[string]func(*slack.View){
		"another byte":        func(v *slack.View) { v.Ticket.Call.Body[15_000] ^= 1 },
		"another why":         func(v *slack.View) { v.Ticket.Justification += "." },
		"another callback":    func(v *slack.View) { v.Ticket.Callback = &approvals.Callback{URL: "https://payroll.example.com/"} },
		"another fingerprint": func(v *slack.View) { v.Fingerprint = "0000 0000 0000 0000" },
		"another upstream":    func(v *slack.View) { v.BaseURL = "https://billing.internal/v2" },
		"another caller":      func(v *slack.View) { v.Ticket.Caller = "other-bot" },
	} {
		changed := pendingView(t, withBody(longBody(20_000)))
		edit(&changed)
		require.NotEqual(t, want.Hash(), slack.NewReview(changed).Hash(), name)
	}
}

func submits(m slack.ModalView) bool { return m.Submit != nil }

func TestApprovalIsOfferedOnTheLastPageOnly(t *testing.T) {
	t.Parallel()
	v := pendingView(t, withBody(longBody(40_000)))
	r := slack.NewReview(v)
	for page := 0; page <= r.Pages()+1; page++ {
		m := r.Modal(reviewHandle, page, slack.ReviewApprove)
		require.NoError(t, slack.LintModal(m))
		require.Equal(t, page >= r.Pages(), submits(m), page)
		require.Equal(t, map[bool]string{true: slack.CallbackApprove, false: slack.CallbackView}[submits(m)], m.CallbackID)
		require.Equal(t, `{"h":"`+reviewHandle+`"}`, m.PrivateMetadata)
		require.False(t, submits(r.Modal(reviewHandle, page, slack.ReviewOnly)))
		require.False(t, submits(r.Modal(handle, page, slack.ReviewApprove)), "the handle of a card is none of a review")
		require.Empty(t, r.Modal("", page, slack.ReviewApprove).PrivateMetadata)
		want := []string{slack.ActionPrev, slack.ActionNext}
		if page <= 1 {
			want = want[1:]
		} else if page >= r.Pages() {
			want = want[:1]
		}
		require.Equal(t, want, buttons(slack.Message{Blocks: m.Blocks.BlockSet}), page)
	}
}

func TestNobodyIsOfferedToApproveWhatCannotBeJudged(t *testing.T) {
	t.Parallel()
	tampered := pendingView(t, nil)
	tampered.Ticket.Call.Path += "0"
	unkeyed := withConfirm(pendingView(t, nil), approvals.ConfirmCode)
	unkeyed.Fingerprint = ""
	for want, v := range map[string]slack.View{
		"what is shown does not have the fingerprint of what was submitted": tampered,
		"its rule hides parts of it that cannot be told from the rest":      pendingView(t, redacting("ssn: canary", "body.ssn")),
		"it is longer than the 400 pages that can be shown here":            pendingView(t, withBody(strings.Repeat("x", 4_000_000))),
		"there is no fingerprint to compare it by":                          unkeyed,
	} {
		r := slack.NewReview(v)
		require.Contains(t, r.Obstacle(), want)
		require.LessOrEqual(t, r.Pages(), slack.MaxReviewPages)
		m := r.Modal(reviewHandle, r.Pages(), slack.ReviewApprove)
		require.NoError(t, slack.LintModal(m))
		require.False(t, submits(m))
		require.Contains(t, textsOf(t, m.Blocks.BlockSet).all(), "*This request cannot be approved from here:* "+want)
	}
}

func TestAsMuchAsFitsOn400PagesCanBeApproved(t *testing.T) {
	t.Parallel()
	v := pendingView(t, withBody(strings.Repeat("x", 3_590_000)))
	r := slack.NewReview(v)
	require.Empty(t, r.Obstacle())
	require.InDelta(t, 400, r.Pages(), 2)
	require.Less(t, len(r.JSON()), 16<<20)
	read, _ := readOf(r)
	require.Contains(t, read, strings.Repeat("x", 3_590_000))
	requireReviewed(t, v)
	binary := pendingView(t, withBody(strings.Repeat("\x00", 590_000)))
	require.Empty(t, slack.NewReview(binary).Obstacle())
	require.Less(t, len(slack.NewReview(binary).JSON()), 16<<20)
}

func TestACodeIsReadElsewhereAndTypedOnTheLastPage(t *testing.T) {
	t.Parallel()
	v := withConfirm(pendingView(t, nil), approvals.ConfirmCode)
	r := slack.NewReview(v)
	m := r.Modal(reviewHandle, 1, slack.ReviewApprove)
	text := textsOf(t, m.Blocks.BlockSet).all()
	last := v.Fingerprint[len(v.Fingerprint)-4:]
	require.NotContains(t, text, v.Fingerprint)
	require.Contains(t, text, v.Fingerprint[:len(v.Fingerprint)-5]+"`")
	require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), v.Fingerprint)
	input := m.Blocks.BlockSet[len(m.Blocks.BlockSet)-1].(*slackgo.InputBlock)
	require.Equal(t, slack.CodeBlock, input.BlockID)
	require.False(t, input.Optional)
	typed := slack.Interaction{View: slack.ModalState{State: map[string]map[string]string{slack.CodeBlock: {slack.InputAction: " " + last + " "}}}}
	require.Equal(t, last, typed.Code())
	plain := slack.NewReview(withConfirm(v, approvals.ConfirmModal)).Modal(reviewHandle, 1, slack.ReviewApprove)
	require.Contains(t, textsOf(t, plain.Blocks.BlockSet).all(), v.Fingerprint)
	odd := slack.NewReview(withConfirm(v, "odd")).Modal(reviewHandle, 1, slack.ReviewApprove)
	require.Equal(t, m, odd, "what is not known is the strictest")
}

func TestWhereAnApprovalIsGivenFollowsItsConfirmation(t *testing.T) {
	t.Parallel()
	for confirm, want := range map[approvals.Confirm]struct {
		text   string
		dialog bool
		review bool
	}{
		approvals.ConfirmNone: {"Approve", false, false}, approvals.ConfirmDialog: {"Approve", true, false},
		approvals.ConfirmModal: {"Review…", false, true}, approvals.ConfirmCode: {"Review…", false, true}, "odd": {"Review…", false, true},
	} {
		v := withConfirm(pendingView(t, nil), confirm)
		b := block(slack.Card(v), "act").(*slackgo.ActionBlock).Elements.ElementSet[0].(*slackgo.ButtonBlockElement)
		require.Equal(t, slack.ActionApprove, b.ActionID)
		require.Equal(t, slackgo.StylePrimary, b.Style)
		require.Equal(t, want.text, b.Text.Text, confirm)
		require.Equal(t, want.dialog, b.Confirm != nil, confirm)
		require.Equal(t, want.review, slack.NeedsReview(v), confirm)
		require.True(t, slack.ShowsAll(v))
	}
	require.True(t, slack.NeedsReview(states(t)["succeeded"]), "what is over is approved from nowhere at once")
}

// A line that is parted between two blocks would look like two.
func TestALineThatGoesOnIsSaidTo(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{strings.Repeat("x", 6000): true, strings.Repeat(strings.Repeat("x", 79)+"\n", 70): false} {
		r := slack.NewReview(pendingView(t, withBody(body)))
		text := textsOf(t, r.Modal(reviewHandle, 1, slack.ReviewOnly).Blocks.BlockSet).all()
		require.Equal(t, want, strings.Contains(text, "(the same line goes on)"), body[:80])
	}
}
