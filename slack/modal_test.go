package slack_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func TestDenyModalIsAsReviewed(t *testing.T) {
	t.Parallel()
	view := slack.DenyModal(pendingView(t, nil))
	require.NoError(t, slack.LintModal(view))
	require.Equal(t, `{"h":"`+handle+`"}`, view.PrivateMetadata)
	golden(t, "modal_deny", view)
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
		approvals.CodeInvalid, approvals.CodeNotFound,
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
	require.Less(t, len(slack.Refusal(approvals.CodeInvalid, strings.Repeat("x", 9000))), 400)
}
