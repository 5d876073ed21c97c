package emulator_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

func input(id, element string) string {
	return `{"type":"input","optional":true,"block_id":"` + id + `","label":{"type":"plain_text","text":"x"},"element":` + element + `}`
}

func TestRule3EveryInputHoldsWhatItsTypeSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const options = `"options":[{"text":{"type":"plain_text","text":"A"},"value":"a"},{"text":{"type":"plain_text","text":"B"},"value":"b"}]`
	v := b.openModal(`{"type":"modal","title":{"type":"plain_text","text":"x"},"submit":{"type":"plain_text","text":"Go"},"blocks":[` +
		input("date", `{"type":"datepicker","action_id":"v","initial_date":"2026-01-02"}`) + "," +
		input("time", `{"type":"timepicker","action_id":"v"}`) + "," +
		input("both", `{"type":"datetimepicker","action_id":"v"}`) + "," +
		input("many", `{"type":"multi_static_select","action_id":"v",`+options+`}`) + "," +
		input("people", `{"type":"multi_users_select","action_id":"v"}`) + "," +
		input("place", `{"type":"conversations_select","action_id":"v"}`) + "," +
		input("mail", `{"type":"email_text_input","action_id":"v"}`) + "," +
		input("count", `{"type":"number_input","is_decimal_allowed":false,"action_id":"v"}`) + `]}`)
	type values = map[string]map[string]string
	_, err := b.slack.SubmitView(t.Context(), bo, v.ID, values{"time": {"v": "noon"}})
	require.ErrorIs(t, err, emulator.ErrNotAllowed, "a picker cannot hold what it does not offer")
	seen := b.submit(v.ID, values{"mail": {"v": "nobody"}, "count": {"v": "many"}})
	require.Equal(t, map[string]string{"mail": "Please enter a valid value.", "count": "Please enter a valid value."}, seen.Errors)
	b.app.answers(nil)
	require.True(t, b.submit(v.ID, values{
		"time": {"v": "12:30"}, "both": {"v": "1795447000"}, "many": {"v": "a,b"}, "people": {"v": ana + "," + bo},
		"place": {"v": channel}, "mail": {"v": "ana@example.com"}, "count": {"v": "3"},
	}).Closed)
	held := at(b.app.last(t).payload, "view", "state", "values")
	for block, want := range map[string][2]string{
		"date": {"selected_date", "2026-01-02"}, "time": {"selected_time", "12:30"}, "place": {"selected_conversation", channel},
		"mail": {"value", "ana@example.com"}, "count": {"value", "3"},
	} {
		require.Equal(t, want[1], at(held, block, "v", want[0]), block)
	}
	require.EqualValues(t, 1795447000, at(held, "both", "v", "selected_date_time"))
	require.Len(t, at(held, "many", "v", "selected_options"), 2)
	require.Equal(t, []any{ana, bo}, at(held, "people", "v", "selected_users"))
}

func TestRule3PickersAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, element := range map[string]string{
		"date":    `{"type":"datepicker","initial_date":"tomorrow"}`,
		"number":  `{"type":"number_input"}`,
		"unknown": `{"type":"slider"}`,
	} {
		out := b.refused("invalid_arguments", "views.publish", "user_id", bo, "view", `{"type":"home","blocks":[`+input("x", element)+`]}`)
		require.Contains(t, fmt.Sprint(at(out, "response_metadata", "messages")), "[json-pointer:/view/blocks/0/element", name)
	}
}
