package slack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack"
)

func TestPeopleAreToldWhatIsWrongWithAnEndpointAndWhoMayMendIt(t *testing.T) {
	t.Parallel()
	e := slack.EndpointTrouble{ID: "end_1", Caller: "payroll-bot", Origin: "https://hooks.example.com:443", Failures: 7, Since: start}
	text := func(change func(*slack.EndpointTrouble)) string {
		x := e
		change(&x)
		m := x.Message()
		require.Contains(t, m.Text, "payroll-bot")
		return m.Text + " " + pretty(t, m.Blocks)
	}
	failing := text(func(*slack.EndpointTrouble) {})
	require.Contains(t, failing, "7 attempts in a row")
	require.NotContains(t, failing, "redeliver", "there is nothing to send once more")

	disabled := text(func(x *slack.EndpointTrouble) { x.Disabled, x.Why, x.By = true, "it is being <moved>", "dora" })
	require.Contains(t, disabled, "Callbacks are no longer sent")
	require.Contains(t, disabled, "until an owner of the caller, an operator or the caller itself enables the endpoint")
	require.Contains(t, disabled, "countersign callbacks enable end_1")
	require.NotContains(t, disabled, "<moved>")

	dead := text(func(x *slack.EndpointTrouble) { x.DeadLetter, x.GivenUp = true, "ticket.succeeded of tkt_1" })
	require.Contains(t, dead, "A callback was given up")
	require.Contains(t, dead, "ticket.succeeded of tkt_1")
	require.Contains(t, dead, "countersign redeliver --endpoint end_1 --since 24h")
}
