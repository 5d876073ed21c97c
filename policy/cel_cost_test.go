package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// large is a call with a long text and a long list.
func large() approvals.Call {
	call := customer()
	call.Body = []byte(`{"note":"` + strings.Repeat("a b", 200_000) + `","list":[1` + strings.Repeat(",1", 100_000) + `]}`)
	return call
}

// The limit is forty times what is aimed at, so that a busy machine does not fail it.
const soon = 2 * time.Second

// quick fails when something takes longer than it may.
func quick(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	late := time.NewTimer(limit)
	defer late.Stop()
	do()
	select {
	case <-late.C:
		require.Fail(t, "it took longer than "+limit.String(), what)
	default:
	}
}

func TestNoConditionTakesLong(t *testing.T) {
	t.Parallel()
	call := large()
	for _, when := range []string{
		`body.note.matches("[a-z ]{1,500}x$")`, `matches(body.note, "[a-z ]{1,500}x$")`, `body.note.matches("([a-z]{1,30} ){1,30}x")`,
		`body.list.all(i, !body.note.matches("x$"))`, `body.list.all(i, size(body.note) > 0)`, `body.list.all(i, body.note.size() > 0)`,
		`body.list.all(i, bytes(body.note) != b"x")`, `body.list.all(i, string(body.note) != "x")`, `body.list.all(i, body.note < "x")`,
		`body.list.all(i, body.note != "x")`, `body.list.all(i, body.note.startsWith("a"))`, `body.list.all(i, !body.note.endsWith("x"))`,
		`body.list.all(i, !body.note.contains("x"))`, `body.list.all(i, body.note.lowerAscii() != "x")`, `body.list.all(i, body.note.charAt(5) != "x")`,
		`body.list.all(i, (body.note + "a") != "x")`, `body.list.all(i, !(body.note in body))`, `body.list.all(i, !(body.note in ["a"]))`,
		`body.list.all(i, body.list + body.list != [body.note])`, `body.list.all(i, type(body.note) == string)`,
	} {
		c := conditional(t, when)
		quick(t, soon, when, func() {
			require.Contains(t, []string{unclear + "it costs too much to evaluate", "guarded"}, conditionalPlan(t, c, call).Reason, when)
		})
	}
}

func TestAMatchThatWouldTakeLongIsAnError(t *testing.T) {
	t.Parallel()
	for when, reason := range map[string]string{
		`body.note.matches("[a-z ]{1,500}x$")`:          unclear + "it costs too much to evaluate",
		`matches(body.note, "[a-z ]{1,500}x$")`:         unclear + "it costs too much to evaluate",
		`body.note.matches("^a b") && method == "POST"`: "guarded",
	} {
		call := customer()
		call.Body = []byte(`{"note":"` + strings.Repeat("a b", 30_000) + `"}`)
		require.Equal(t, reason, conditionalPlan(t, conditional(t, when), call).Reason, when)
	}
}

// Matches within the limit of one still count against what all of a call's may cost.
func TestMatchesCountAgainstTheBudgetOfTheCall(t *testing.T) {
	t.Parallel()
	call := customer()
	call.Body = []byte(`{"note":"` + strings.Repeat("a b", 30_000) + `"}`)
	var rules []string
	for i := range 12 {
		rules = append(rules, strings.Replace(guarded(`body.note.matches("[0-9]{10}x$") && path != "/`+fmt.Sprint(i)+`"`), "name: guard", fmt.Sprintf("name: g%d", i), 1))
	}
	c := ruled(t, append(rules, "{name: rest, action: allow, match: {}}")...)
	require.Contains(t, conditionalPlan(t, c, call).Reason, "it costs too much to evaluate")
}

// What a condition has said while planning is not worked out again to explain it: a call
// whose conditions use up half of what they may cost is explained without an error.
func TestAnExplanationEvaluatesEachConditionOnce(t *testing.T) {
	t.Parallel()
	call := customer()
	call.Body = []byte("[" + strings.Repeat("1,", 100_000) + "1]")
	c := ruled(t, guarded(`body.exists(x, x == -1)`), strings.Replace(guarded(`body.exists(x, x == -2)`), "guard", "second", 1), "{name: rest, action: allow, match: {}}")
	bot, _ := c.Caller("bot")
	// The fastest of several, one after the other by turns: a busy machine makes some slow.
	planned, explained := time.Hour, time.Hour
	took := func(do func()) time.Duration {
		began := time.Now() //nolint:forbidigo // how long it takes is what is compared
		do()
		return time.Since(began) //nolint:forbidigo // as above
	}
	for range 12 {
		planned = min(planned, took(func() { c.Plan(bot, "", call, noon) }))
		explained = min(explained, took(func() { c.Explain(bot, "", call, noon) }))
	}
	require.Less(t, explained, planned*2, "it took three times as long when each was evaluated three times")
}
