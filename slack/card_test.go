package slack_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got any) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	text := pretty(t, got)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // a name from this file
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// states renders a card in every state there is.
func states(t *testing.T) map[string]slack.View {
	t.Helper()
	caller := approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot"}
	pending := submitted(t, submission(), plan())
	two := submitted(t, submission(), twoStages())
	yes := approved(t, pending, "bo", "chen")
	running := executing(t, yes)
	out := map[string]slack.View{
		"pending":        viewOf(pending, 0),
		"progress":       viewOf(approved(t, pending, "bo"), 0),
		"stage_1_of_2":   viewOf(two, 0),
		"stage_complete": viewOf(approved(t, two, "dev"), 0),
		"stage_2_of_2":   viewOf(approved(t, two, "dev"), 1),
		"approved":       viewOf(yes, 0),
		"executing":      viewOf(running, 0),
		"denied":         viewOf(decided(t, pending, "chen", approvals.Deny, "Not *before* the audit <!channel>"), 0),
	}
	done := finished(t, running, answered(200, true))
	out["succeeded"] = viewOf(done, 0)
	tr, err := done.Delivered("w1", approvals.DeliveryAttempt{Seq: done.CallbackSeq, Number: 1, Status: 204}, start.Add(19*time.Minute))
	out["succeeded_delivered"] = viewOf(next(t, tr, err), 0)
	tr, err = done.DeliveryFailed("w1", approvals.DeliveryAttempt{Seq: done.CallbackSeq, Number: 10}, start.Add(19*time.Minute))
	out["succeeded_undeliverable"] = viewOf(next(t, tr, err), 0)
	out["failed"] = viewOf(finished(t, running, answered(503, false)), 0)
	out["not_sent"] = viewOf(finished(t, running, approvals.Outcome{
		Kind: approvals.NotSent, Problem: &approvals.Problem{Code: "connect_failed", Detail: "no route to <billing>"},
	}), 0)
	out["outcome_unknown"] = viewOf(finished(t, running, approvals.Outcome{
		Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "timeout", Detail: "no answer within 30 s"},
	}), 0)
	tr, err = pending.Ask(approvals.Actor{Kind: approvals.ActorPerson, Name: "bo"}, approvals.Question{Person: "bo", Text: "Which *ticket* is this for?"}, directory(), start)
	out["needs_info"] = viewOf(next(t, tr, err), 0)
	tr, err = pending.Expire(start.Add(25 * time.Hour))
	out["expired"] = viewOf(next(t, tr, err), 0)
	tr, err = yes.Expire(start.Add(2 * time.Hour))
	out["approval_stale"] = viewOf(next(t, tr, err), 0)
	tr, err = pending.Cancel(caller, "no longer needed", start)
	out["cancelled"] = viewOf(next(t, tr, err), 0)
	tr, err = running.Cancel(caller, "stop", start.Add(17*time.Minute))
	out["cancelled_too_late"] = viewOf(next(t, tr, err), 0)
	maps.Copy(out, laterStates(t))
	return addPolicyStates(t, out)
}

func addPolicyStates(t *testing.T, out map[string]slack.View) map[string]slack.View {
	t.Helper()
	no := approvals.Plan{Rule: "no-deletes", Action: approvals.ActionDeny, Reason: "deletes are <never> allowed", ExpiresIn: time.Hour}
	out["denied_by_policy"] = viewOf(submitted(t, submission(), no), 0)
	allow := approvals.Plan{Rule: "read-only", Action: approvals.ActionAllow, ExpiresIn: time.Hour, ExecuteWithin: time.Minute}
	out["allowed_by_policy"] = viewOf(submitted(t, submission(), allow), 0)
	reopened := approved(t, submitted(t, submission(), twoStages()), "dev")
	reopened.Stage = 0
	out["earlier_stage_reopened"] = viewOf(reopened, 1)
	return out
}

func TestCardOfEveryStateIsAsReviewed(t *testing.T) {
	t.Parallel()
	for name, v := range states(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := slack.Card(v)
			require.NoError(t, slack.Lint(m))
			golden(t, "card_"+name, map[string]any{"text": m.Text, "blocks": m.Blocks})
		})
	}
}

func TestCardOfEveryStateIsAcceptedBySlackAndCanReplaceEveryOther(t *testing.T) {
	t.Parallel()
	_, client := workspace(t)
	ref, err := client.Post(t.Context(), channel, slack.Card(viewOf(submitted(t, submission(), plan()), 0)), slack.PostOptions{})
	require.NoError(t, err)
	for name, v := range states(t) {
		require.NoError(t, client.Update(t.Context(), ref, slack.Card(v)), name)
		require.NoError(t, client.Update(t.Context(), ref, slack.Plain(v)), name)
	}
}

func TestOnlyAnOpenCardOfTheCurrentStageHasButtons(t *testing.T) {
	t.Parallel()
	for name, v := range states(t) {
		if v.Ticket.State.Open() && v.Ticket.Stage == v.Stage {
			want := []string{slack.ActionApprove, slack.ActionDeny}
			if v.Ticket.Question == nil { // one at a time
				want = append(want, slack.ActionAsk)
			}
			want = append(want, slack.ActionView)
			if v.Ticket.Plan.BreakGlass != nil {
				want = append(want, slack.ActionBreakGlass)
			}
			require.Equal(t, want, buttons(slack.Card(v)), name)
			continue
		}
		require.Empty(t, buttons(slack.Card(v)), name)
	}
}

func TestACardWithoutAValidHandleHasNoButtons(t *testing.T) {
	t.Parallel()
	for _, h := range []string{"", "h_", "h_5F0C9C3E7F6E4B8AA1D2C07B94E61F38", handle + "0", ticketID} {
		v := pendingView(t, nil)
		v.Handle = h
		require.Nil(t, block(slack.Card(v), "act"), h)
		require.Nil(t, block(slack.Plain(v), "act"), h)
	}
}

func TestEveryCardKeepsARichTextBlock(t *testing.T) {
	t.Parallel()
	for name, v := range states(t) {
		for _, m := range []slack.Message{slack.Card(v), slack.Plain(v)} {
			require.IsType(t, &slackgo.RichTextBlock{}, block(m, "req"), name)
		}
	}
}

func TestThePlainCardNeverOffersToApprove(t *testing.T) {
	t.Parallel()
	for name, v := range states(t) {
		require.NotContains(t, buttons(slack.Plain(v)), slack.ActionApprove, name)
		require.NoError(t, slack.Lint(slack.Plain(v)), name)
	}
}

// inThreeHours is when the call of a scheduled ticket may be made.
const inThreeHours = "<!date^1795456800^{date_short_pretty} {time}|2026-11-23 18:00 UTC>"

func TestTheEffectIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	all := states(t)
	for name, want := range map[string]string{
		"pending":           "Nothing has been sent. Approving leaves 1 approval to be given; it is sent once, right after the last.",
		"progress":          "Nothing has been sent. Approving sends it once, now.",
		"stage_1_of_2":      "Nothing has been sent. Approving counts for this stage; it is sent once, when the last stage is complete.",
		"denied":            ":no_entry: Denied by <@U02CHEN>. Nothing was sent. Callback not delivered yet.",
		"expired":           ":hourglass: Nobody decided in time. Nothing was sent. Callback not delivered yet.",
		"succeeded":         ":white_check_mark: Approved by <@U02BO> and <@U02CHEN>. Upstream answered *200* in 312 ms. Callback not delivered yet.",
		"failed":            ":x: Approved by <@U02BO> and <@U02CHEN>. Upstream answered *503* in 312 ms, which counts as a failure. Callback not delivered yet.",
		"allowed_by_policy": ":hourglass_flowing_sand: Allowed by rule `read-only` without anybody's approval. It is about to be sent, once.",
		"held":              ":hourglass_flowing_sand: Approved by <@U02BO> and <@U02CHEN>. It will be sent once, not before " + inThreeHours + ".",
		"released":          ":hourglass_flowing_sand: Approved by <@U02BO> and <@U02CHEN>. It is about to be sent, once.",
		"scheduled":         "Nothing has been sent. Approving leaves it to be sent once, not before " + inThreeHours + ".",
		"superseded":        ":leftwards_arrow_with_hook: Superseded by <https://countersign.example.com/t/" + otherTicket + "|tkt_01k9…r7q8>. Nothing was sent. Callback not delivered yet.",
		"glass_broken":      ":hourglass_flowing_sand: *Glass broken by* <@U02DEV>: 2 approvals were bypassed. It is about to be sent, once.",
		"glass_broken_succeeded": ":white_check_mark: *Glass broken by* <@U02DEV>: 1 approval was bypassed. Approved by <@U02BO> before. " +
			"Upstream answered *200* in 312 ms. Callback not delivered yet.",
		"denied_in_a_place": ":no_entry: Denied by <@U02DAN> for <@U02CHEN>. Nothing was sent. Callback not delivered yet.",
		"stalled": ":warning: *Nobody who may still decide can complete this:* of 2 needed approvals only 1 can be given by the people who may still decide. " +
			"Nothing has been sent. Approving leaves 1 approval to be given; it is sent once, right after the last.",
		"asked_again_elsewhere": ":white_check_mark: Stage 1 is complete, approved by <@U02BO> and <@U02CHEN>. " +
			"The policy became stricter since: *asked again*. Stage 2 of 3 (security) is being asked. Nothing has been sent.",
		"comment_to_approve": "Nothing has been sent. Approving sends it once, now. Review… opens the whole request, and it is approved from there. Approving needs a comment.",
		"comment_to_deny":    "Nothing has been sent. Approving sends it once, now. Denying needs a reason.",
		"comment_always":     "Nothing has been sent. Approving sends it once, now. Review… opens the whole request, and it is approved from there. Either decision needs a comment.",
		"stage_complete":     ":white_check_mark: Stage 1 is complete, approved by <@U02DEV>. Stage 2 of 2 (security) is being asked. Nothing has been sent.",
	} {
		require.Equal(t, want, block(slack.Card(all[name]), "out").(*slackgo.SectionBlock).Text.Text, name)
	}
}

func TestTheConfirmationNamesVerbTargetAndFingerprint(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	act := block(slack.Card(v), "act").(*slackgo.ActionBlock)
	confirm := act.Elements.ElementSet[0].(*slackgo.ButtonBlockElement).Confirm
	require.Equal(t, slackgo.PlainTextType, confirm.Text.Type)
	require.Equal(t, "DELETE billing.internal/v1/customers/42\nfingerprint "+v.Fingerprint+
		"\nIt runs at once after the last approval.", confirm.Text.Text)
}

func TestAnUpstreamThatMayBeAskedAgainIsSaidSo(t *testing.T) {
	t.Parallel()
	v := pendingView(t, func(_ *approvals.Submission, p *approvals.Plan) { p.Idempotent = true })
	require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), "it may be sent again")
}

func TestWhoeverIsMentionedInsteadIsMentioned(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Mention = []string{"S0SECURITY", "U02BO", "<!channel>", "everyone"}
	facts := block(slack.Card(v), "facts").(*slackgo.SectionBlock)
	require.Equal(t, "*Waiting for*\n<!subteam^S0SECURITY>, <@U02BO>", facts.Fields[3].Text)
}
