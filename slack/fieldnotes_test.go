package slack_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

// The numbers are those of the bugs that other systems for approvals have had.

func TestFieldNote07ManyGroupsOfApproversStillHaveACard(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	for _, n := range []int{21, 50, 200} {
		v := pendingView(t, nil)
		stage := &v.Ticket.Plan.Stages[0]
		stage.Need = nil
		v.Ticket.Plan.Roster = nil
		for i := range n {
			person, group := fmt.Sprintf("p%03d", i), fmt.Sprintf("group-%03d", i)
			v.Directory.People[person] = approvals.Person{Name: person, Slack: fmt.Sprintf("U%08d", i)}
			v.Directory.Groups[group] = []string{person}
			stage.Need = append(stage.Need, approvals.ApproverSet{From: []string{group}, Approvals: 1})
		}
		v.Tally = v.Ticket.Tally(0, v.Directory)
		m := slack.Card(v)
		require.NoError(t, slack.Lint(m), n)
		require.Contains(t, buttons(m), slack.ActionApprove, n)
		_, err := client.Post(t.Context(), channel, m, slack.PostOptions{})
		require.NoError(t, err, n)
	}
}

func TestFieldNote08NoNameReachesAHandleOrABlockID(t *testing.T) {
	t.Parallel()
	ids := func(m slack.Message) (out []string) {
		for _, b := range m.Blocks {
			out = append(out, b.ID())
		}
		return append(out, buttons(m)...)
	}
	plain := pendingView(t, nil)
	for _, name := range []string{"team:eu", "a|b", "cs.approve:x", `{"h":"x"}`, strings.Repeat("g", 300)} {
		v := pendingView(t, nil)
		v.Directory.Groups[name] = []string{"bo", "chen"}
		v.Ticket.Plan.Stages[0].Name, v.Ticket.Plan.Rule = name, name
		v.Ticket.Plan.Stages[0].Need[0].From = []string{name}
		v.Ticket.Plan.Roster[name] = []string{"bo", "chen"}
		v.Tally = v.Ticket.Tally(0, v.Directory)
		require.Equal(t, ids(slack.Card(plain)), ids(slack.Card(v)), name)
		require.Equal(t, slack.DenyModal(plain).PrivateMetadata, slack.DenyModal(v).PrivateMetadata, name)
	}
}

func TestFieldNote09NothingIsSaidToBeDoneBeforeItIs(t *testing.T) {
	t.Parallel()
	all := states(t)
	for name, v := range all {
		text := slack.Card(v).Text + textsOf(t, slack.Card(v).Blocks).all()
		if v.Ticket.State != approvals.Succeeded {
			require.NotContains(t, text, "Executed", name)
		}
		if v.Ticket.State.Open() {
			require.Contains(t, text, "Nothing has been sent.", name)
		}
		if v.Ticket.State == approvals.Approved {
			require.Regexp(t, `It (is about to|will) be sent once|It is about to be sent, once`, text, name)
		}
	}
}

// What a card shows of the request, and so whether it can be approved, must not depend on
// whether the answers have been read: the click is judged without them.
func TestFieldNote10AnswersNeverChangeWhetherTheRequestCanBeApproved(t *testing.T) {
	t.Parallel()
	for size := 4000; size < 9500; size += 250 {
		s := submission()
		s.Call.Body = []byte(strings.Repeat("x", size))
		for _, words := range []int{1, 100, 2000} {
			once, question := replied(t, asked(t, submitted(t, s, plan()), "Which ticket?"), strings.Repeat("a", words))
			without := viewOf(once, 0)
			with := without
			with.Answered = []approvals.Question{question}
			require.NoError(t, slack.Lint(slack.Card(with)))
			require.Equal(t, slack.Offers(without, slack.ActionApprove), slack.Offers(with, slack.ActionApprove), "%d bytes and an answer of %d", size, words)
			require.Equal(t, shownRequest(slack.Card(without)), shownRequest(slack.Card(with)))
		}
	}
}

func TestFieldNote10NobodyBreaksTheGlassOnWhatIsNotShown(t *testing.T) {
	t.Parallel()
	s := submission()
	s.Call.Body = []byte(strings.Repeat("x", 40_000))
	v := viewOf(submitted(t, s, breakable()), 0)
	require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), "Whoever breaks the glass has to have read it there too.")
	require.False(t, slack.Offers(v, slack.ActionBreakGlass))
	v.Ticket.Plan.Redact = []string{"everything"}
	require.NotContains(t, buttons(slack.Card(v)), slack.ActionBreakGlass, "nobody can judge it from anywhere")
}

func TestACallOf64HeadersHasAWholeCardAndACallOf100AWholeReview(t *testing.T) {
	t.Parallel()
	headers := func(n, size int) func(*approvals.Submission, *approvals.Plan) {
		return func(s *approvals.Submission, _ *approvals.Plan) {
			s.Call.Headers = nil
			for i := range n {
				s.Call.Headers = append(s.Call.Headers, approvals.Header{Name: fmt.Sprintf("X-H%02d", i), Value: strings.Repeat("v", size)})
			}
		}
	}
	v := pendingView(t, headers(64, 40))
	require.NoError(t, slack.Lint(slack.Card(v)))
	require.True(t, slack.Offers(v, slack.ActionApprove))
	require.Contains(t, accountOf(slack.Card(v)), "headers: 64 shown")
	v = pendingView(t, headers(100, 8192))
	requireReviewed(t, v)
	read, _ := readOf(slack.NewReview(v))
	require.Equal(t, 100, strings.Count(read, strings.Repeat("v", 8192)))
}
