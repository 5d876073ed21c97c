package slack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func TestShowHidesWhatTheCardHidesAndNothingElse(t *testing.T) {
	t.Parallel()
	tk := approvals.Ticket{
		Call: approvals.Call{
			Query:   "force=true&token=s3cret",
			Headers: []approvals.Header{{Name: "Accept", Value: "text/plain"}, {Name: "X-Api-Key", Value: "s3cret"}},
			Body:    []byte(`{"amount": 42, "ssn": "s3cret"}`),
		},
		Plan: approvals.Plan{Redact: []string{"query.token", "body.ssn"}},
	}
	require.Equal(t, slack.Shown{
		Query:    "force=true&token=[redacted]",
		Headers:  []approvals.Header{{Name: "Accept", Value: "text/plain"}, {Name: "X-Api-Key", Value: "[redacted]"}},
		Body:     `{"amount": 42, "ssn": "[redacted]"}`,
		Complete: true,
	}, slack.Show(tk))
}

func TestShowSaysWhenNobodyCanJudgeByIt(t *testing.T) {
	t.Parallel()
	for name, tk := range map[string]approvals.Ticket{
		"a body that cannot be taken apart": {Call: approvals.Call{Body: []byte(`{"ssn": s3cret`)}, Plan: approvals.Plan{Redact: []string{"body.ssn"}}},
		"a rule that is not understood":     {Call: approvals.Call{Body: []byte(`{"a":"s3cret"}`)}, Plan: approvals.Plan{Redact: []string{"everything.s3cret"}}},
	} {
		got := slack.Show(tk)
		require.False(t, got.Complete, name)
		require.NotContains(t, got.Body, "s3cret", name)
	}
}

func TestShowGivesABodyThatIsNoTextAsBase64(t *testing.T) {
	t.Parallel()
	got := slack.Show(approvals.Ticket{Call: approvals.Call{Body: []byte{0xff, 0x00, 0x01}}})
	require.Equal(t, slack.Shown{BodyBase64: "/wAB", Complete: true}, got)
}
