package slack_test

import (
	"encoding/json"
	"strings"
	"testing"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

// reasoned is a rule that wants to know why somebody denies.
func reasoned(_ *approvals.Submission, p *approvals.Plan) {
	p.Stages[0].Comment = approvals.CommentDeny
}

func TestEveryModalIsAsReviewed(t *testing.T) {
	t.Parallel()
	scheduled := states(t)["scheduled"]
	scheduled.Ticket.Plan = breakable()
	glass := viewOf(submitted(t, submission(), breakable()), 0)
	for name, m := range map[string]slackgo.ModalViewRequest{
		"deny": slack.DenyModal(pendingView(t, reasoned)), "deny_without_reason": slack.DenyModal(pendingView(t, nil)),
		"answer": slack.AnswerModal(states(t)["needs_info"]),
		"ask":    slack.AskModal(pendingView(t, nil)), "break_glass": slack.BreakGlassModal(glass), "break_glass_scheduled": slack.BreakGlassModal(scheduled),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, slack.LintModal(m))
			require.Equal(t, `{"h":"`+handle+`"}`, m.PrivateMetadata)
			require.Contains(t, textsOf(t, m.Blocks.BlockSet).all(), "DELETE https://billing.internal/v1/customers/42?hard=true", "which request it is about")
			input := m.Blocks.BlockSet[len(m.Blocks.BlockSet)-1].(*slackgo.InputBlock)
			require.Equal(t, slack.InputOf(m.CallbackID), input.BlockID, "where errors are shown")
			require.Equal(t, name == "deny_without_reason", input.Optional)
			golden(t, "modal_"+name, m)
		})
	}
}

func TestEveryButtonThatOpensAModalOpensItsOwn(t *testing.T) {
	t.Parallel()
	v := viewOf(submitted(t, submission(), breakable()), 0)
	for _, action := range []string{slack.ActionDeny, slack.ActionAsk, slack.ActionBreakGlass, slack.ActionAnswer} {
		m, ok := slack.Modal(v, action)
		require.True(t, ok, action)
		require.Equal(t, action, m.CallbackID)
		require.NotEmpty(t, slack.InputOf(action))
	}
	for _, action := range []string{slack.ActionView, slack.ActionApprove, slack.ActionNext, slack.ActionPrev, ""} {
		_, ok := slack.Modal(v, action)
		require.False(t, ok, action)
	}
	require.Empty(t, slack.InputOf(slack.ActionView))
}

func TestBreakingTheGlassSaysWhatItBypassesAndWhoHears(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit func(*approvals.Plan)
		want []string
	}{
		"one stage": {func(*approvals.Plan) {}, []string{"bypasses 2 approvals that are missing", "sent once, now", "announced as that in <#C01BILLING> and *#security*"}},
		"two stages": {
			func(p *approvals.Plan) { p.Stages = append(twoStages().Stages[:1:1], p.Stages...) },
			[]string{"bypasses 3 approvals that are missing", "announced as that in *#security*"},
		},
		"nowhere": {
			func(p *approvals.Plan) { p.Stages[0].Channel, p.BreakGlass.Announce = "", "" },
			[]string{"It is recorded as glass broken by you."},
		},
		"the same channel": {func(p *approvals.Plan) { p.BreakGlass.Announce = "C01BILLING" }, []string{"announced as that in <#C01BILLING> with your name"}},
		"a hostile name":   {func(p *approvals.Plan) { p.BreakGlass.Announce = "#<!channel>" }, []string{"*#&lt;!channel&gt;*"}},
	} {
		p := breakable()
		test.edit(&p)
		m := slack.BreakGlassModal(viewOf(submitted(t, submission(), p), 0))
		require.NoError(t, slack.LintModal(m), name)
		text := textsOf(t, m.Blocks.BlockSet).all()
		for _, want := range append(test.want, "*You approve this call alone.*") {
			require.Contains(t, text, want, name)
		}
	}
}

func TestDenyModalOfALongAddressSaysThatItIsCut(t *testing.T) {
	t.Parallel()
	view := slack.DenyModal(pendingView(t, func(s *approvals.Submission, _ *approvals.Plan) { s.Call.Path = "/" + strings.Repeat("a", 8000) }))
	require.NoError(t, slack.LintModal(view))
	require.Contains(t, textsOf(t, view.Blocks.BlockSet).all(), "aaa…")
}

func TestAcksHaveTheFormThatSlackWants(t *testing.T) {
	t.Parallel()
	require.JSONEq(t, `{"response_action":"errors","errors":{"reason":"Too long <b>"}}`, string(slack.AckError(slack.ReasonBlock, "Too long <b>")))
	var notice struct {
		Action string `json:"response_action"`
		View   struct {
			Type   string           `json:"type"`
			Blocks []map[string]any `json:"blocks"`
		} `json:"view"`
	}
	require.NoError(t, json.Unmarshal(slack.AckNotice(strings.Repeat("é", 5000)), &notice))
	require.Equal(t, "update", notice.Action)
	require.Equal(t, "modal", notice.View.Type)
	require.Len(t, notice.View.Blocks, 1)
	require.NoError(t, slack.LintModal(slack.Notice("")))
	require.NoError(t, slack.LintModal(slack.Notice(strings.Repeat("👍", 5000))))
}

func TestRefusalsArePoliteAndNameNothingSecret(t *testing.T) {
	t.Parallel()
	for _, code := range []approvals.Code{
		approvals.CodeConflict, approvals.CodeAlreadyFinal, approvals.CodeAlreadyDecided, approvals.CodeStale, approvals.CodeDigestMismatch,
		approvals.CodeNotApprover, approvals.CodeSelfApproval, approvals.CodeNeededLater, approvals.CodeNotNeeded, approvals.CodeExpired,
		approvals.CodeInvalid, approvals.CodeNotFound, approvals.CodeAway, approvals.CodeCommentRequired, approvals.CodeStalePolicy,
	} {
		text := slack.Refusal(code, "that stage is over")
		require.Regexp(t, `^[A-Z].*\.$`, text, code)
		require.NotEqual(t, slack.Refusal("", ""), text, code)
	}
	require.Equal(t, "Your click was not counted. That stage is over.", slack.Refusal(approvals.CodeStale, "that stage is over"))
	for _, code := range []approvals.Code{"", "internal", approvals.CodeNotDue, approvals.CodeUnsatisfiable} {
		require.NotContains(t, slack.Refusal(code, "pq: password canary"), "canary")
	}
	require.NotContains(t, slack.Refusal(approvals.CodeNotApprover, "canary"), "canary")
	require.Contains(t, slack.Refusal(approvals.CodeAway, ""), "your delegate decides in your place")
	require.Contains(t, slack.Refusal(approvals.CodeCommentRequired, ""), "Press the button again and say why")
	require.Contains(t, slack.Refusal(approvals.CodeStalePolicy, ""), "Please use the newest card")
	require.Contains(t, slack.RefusalToBypass(approvals.CodeNotApprover, "canary"), "You may not break the glass for this request")
	require.Equal(t, slack.Refusal(approvals.CodeSelfApproval, ""), slack.RefusalToBypass(approvals.CodeSelfApproval, ""))
	require.Less(t, len(slack.Refusal(approvals.CodeInvalid, strings.Repeat("x", 9000))), 400)
}
