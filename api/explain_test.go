package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const explained = `{"upstream":"billing","method":"HEAD","path":"/customers/42"}`

func (b *bundle) explain(t *testing.T, key, body string) reply {
	t.Helper()
	return b.do(t, call{method: "POST", path: "/v1/explain", body: body, key: key})
}

func steps(t *testing.T, r reply) (rules []string) {
	t.Helper()
	list, _ := r.field(t, "steps").([]any)
	for _, s := range list {
		m, _ := s.(map[string]any)
		rule, _ := m["rule"].(string)
		rules = append(rules, rule)
	}
	return rules
}

func TestExplainSaysWhichRuleMatchesAndWhoCouldApprove(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.explain(t, b.key, explained)
	require.Equal(t, http.StatusOK, r.status, "explain: %s", r.raw)
	require.Equal(t, []any{"payroll", "two-stages", "approve", "", ""},
		[]any{r.field(t, "caller"), r.field(t, "rule"), r.field(t, "action"), r.field(t, "reason"), r.field(t, "problem")}, "the rule")
	require.Equal(t, []string{"even-hours", "read-only", "no-options", "two-people", "urgent", "two-stages"}, steps(t, r), "the walk, without what is another's")
	stages, _ := r.field(t, "stages").([]any)
	require.Len(t, stages, 2, "stages")
	first, _ := stages[0].(map[string]any)
	people, _ := first["people"].([]any)
	got := map[any]any{}
	for _, p := range people {
		m, _ := p.(map[string]any)
		got[m["person"]] = m["code"]
		require.Equal(t, m["can"], m["code"] == nil, "either they can, or there is a reason: %v", m)
	}
	require.Equal(t, map[any]any{"ana": "self_approval", "bo": nil, "chen": nil}, got, "who can, and why others cannot")
	require.Equal(t, 0, b.tickets(t), "nothing was submitted")

	operator := b.explain(t, b.people["dora"], strings.Replace(explained, "{", `{"caller":"payroll",`, 1))
	require.Contains(t, steps(t, operator), "others-only", "an operator sees all rules")
	other := b.explain(t, b.other, explained)
	require.Equal(t, []any{"others-only", "deny", "not for you"},
		[]any{other.field(t, "rule"), other.field(t, "action"), other.field(t, "reason")}, "the same call by another")
	behalf := b.explain(t, b.key, strings.Replace(explained, "{", `{"on_behalf_of":"eva",`, 1))
	require.NotEmpty(t, behalf.field(t, "problem"), "nobody is left for the second stage: %s", behalf.raw)
	require.Equal(t, "allow", b.explain(t, b.key, strings.Replace(explained, "HEAD", "GET", 1)).field(t, "action"), "an allow rule")
}

func TestExplainIsForOneselfAndThoseOneOwns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	of := func(caller string) string { return strings.Replace(explained, "{", `{"caller":"`+caller+`",`, 1) }
	for name, c := range map[string]struct {
		key, body string
		status    int
		code      string
	}{
		"itself by name":           {b.key, of("payroll"), 200, ""},
		"another caller":           {b.key, of("other"), 403, "caller_not_open"},
		"an owner":                 {b.people["olaf"], of("payroll"), 200, ""},
		"not an owner of this one": {b.people["olaf"], of("other"), 403, "caller_not_open"},
		"an approver":              {b.people["bo"], of("payroll"), 403, "caller_not_open"},
		"nobody's caller":          {b.people["bo"], of("nobody"), 403, "caller_not_open"},
		"an operator":              {b.people["dora"], of("other"), 200, ""},
		"an operator, of nobody":   {b.people["dora"], of("nobody"), 422, "validation_failed"},
		"a person, of whom":        {b.people["dora"], explained, 422, "validation_failed"},
		"an unknown person":        {b.key, strings.Replace(explained, "{", `{"on_behalf_of":"zed",`, 1), 422, "validation_failed"},
		"a closed upstream":        {b.key, strings.Replace(explained, "billing", "vault", 1), 403, "upstream_not_allowed"},
		"a path with two readings": {b.key, strings.Replace(explained, "/customers/42", "/a/../b", 1), 422, "call_invalid"},
		"an unknown field":         {b.key, strings.Replace(explained, "{", `{"because":"x",`, 1), 400, "invalid_body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := b.explain(t, c.key, c.body)
			require.Equal(t, c.status, r.status, "status of %s", r.raw)
			if c.code != "" {
				requireProblem(t, r, c.status, c.code)
			}
		})
	}
}

func TestExplainTakesTheBodyOfASubmit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	with := func(fields string) string { return strings.Replace(explained, "{", "{"+fields+",", 1) }
	whole := `"justification":"case 991","metadata":{"case":"991"},"on_behalf_of":"eva","not_before":"2099-01-01T00:00:00Z",` +
		`"callback":{"url":"https://hooks.example.com/x","events":["ticket.approved"]}`
	for fields, want := range map[string]struct {
		status  int
		pointer string
	}{
		strings.Replace(whole, "2099-01-01T00:00:00Z", b.clock.now().Add(time.Hour).Format(time.RFC3339), 1): {200, ""},
		whole: {422, "#/not_before"},
		`"supersedes":"tkt_00000000000000000000000000"`: {200, ""},
		`"supersedes":"x"`:                                                                           {422, "#/supersedes"},
		`"not_before":"2020-01-01T00:00:00Z"`:                                                        {422, "#/not_before"},
		`"justification":"` + strings.Repeat("x", 5000) + `"`:                                        {422, "#/justification"},
		`"metadata":{"a":"\u0000"}`:                                                                  {422, "#/metadata/a"},
		`"callback":{"url":"https://elsewhere.example.com/x"}`:                                       {422, "#/callback/url"},
		`"callback":{"url":"https://hooks.example.com/x","events":["ticket.vanished"]}`:              {422, "#/callback/events/0"},
		`"callback":{"url":"https://hooks.example.com/x"},"supersedes":"","metadata":{},"body":null`: {200, ""},
	} {
		r := b.explain(t, b.key, with(fields))
		require.Equal(t, want.status, r.status, "%s: %s", fields, r.raw)
		require.Contains(t, string(r.raw), want.pointer, "%s", fields)
		if want.status == http.StatusOK {
			require.Equal(t, "two-stages", r.field(t, "rule"), "%s", fields)
		}
	}
	require.Equal(t, 0, b.tickets(t), "nothing was submitted")
}
