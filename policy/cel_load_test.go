package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

// whenProblems loads rules that hold a marker, ➤, where a problem is expected, and returns
// the problems of that file.
func whenProblems(t *testing.T, text string) (found policy.Problems, line, col int) {
	t.Helper()
	whole := sections(map[string]string{"rules": text})
	before, _, marked := strings.Cut(whole, "➤")
	require.True(t, marked)
	line = 1 + strings.Count(before, "\n")
	col = 1 + len([]rune(before[strings.LastIndex(before, "\n")+1:]))
	return problems(t, strings.Replace(whole, "➤", "", 1)), line, col
}

func whenRule(when string) string {
	return "rules:\n  - name: r\n    action: allow\n    match:\n      path: \"/customers/{id}\"\n      when: " + when + "\n"
}

const (
	folds    = "put it in quotes, or write it as a block behind |"
	comments = "a condition has no // comments: what stands behind one may look like a part of it"
)

func TestAMistakeInAConditionIsShownWhereItIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ when, message, hint string }{
		{`'➤qury.hard == "true"'`, `unknown name "qury" in the condition`, `did you mean "query"?`},
		{`method == "GET" && ➤qury.hard == "true"`, `unknown name "qury" in the condition`, `did you mean "query"?`},
		{`'"it''s" == "u" && ➤qury.x == ""'`, `unknown name "qury" in the condition`, `did you mean "query"?`},
		{`"method == \"u\" && '\u0065\x41\U00000041' == path && ➤qury.x == path"`, `unknown name "qury" in the condition`, `did you mean "query"?`},
		{"|\n        method == \"GET\" &&\n          ➤qury.hard == \"true\"", `unknown name "qury" in the condition`, `did you mean "query"?`},
		{"|-\n        ➤qury.hard == \"true\"", `unknown name "qury" in the condition`, `did you mean "query"?`},
		{"➤>\n        method == \"GET\" &&\n        query.hard == \"true\"", `the lines of a condition must not be folded`, folds},
		{"➤method == \"GET\" &&\n        query.hard == \"true\"", `a condition of several lines needs quotation marks`, folds},
		{"➤method == \"HEAD\" # && body.amount < 100", `YAML cuts the condition at the #`, `put it in quotes`},
		{"|\n        method == \"GET\" &&\n        query.x == 'http://' ➤// or so\n        || path == \"/\"", comments, `write it as a YAML comment, in a line of its own`},
		{`'method == "GET" ➤// && path == "x"'`, comments, `write it as a YAML comment, in a line of its own`},
		{`"method != \"HEAD\" ➤\x2f\x2f && body.amount < 100"`, comments, `write it as a YAML comment, in a line of its own`},
		{`'method == r"\" ➤// "'`, comments, `write it as a YAML comment, in a line of its own`},
		{`'["HEAD"].all➤(method, method == "HEAD")'`, `the variable "method" hides that of the call`, `give the variable another name`},
		{`'[{"amount": 1}].exists➤(body, body.amount < 100)'`, `the variable "body" hides that of the call`, `give the variable another name`},
		{`'[{"name": "a"}].exists➤(caller, caller.name == "a")'`, `the variable "caller" hides that of the call`, `give the variable another name`},
		{`'size({path.trim➤(): 1}) == 1'`, `the keys of a map must be literals`, `write it out`},
		{`'method != "P➤ОST"'`, "", `in a text, write \u and four hex digits`},
		{"➤'method == \"GET\" &&\n        qury.hard == \"true\"'", `unknown name "qury" in the condition`, `did you mean "query"?`},
		{`➤caller == "bot"`, `a condition knows of the caller only its name and owners`, `write caller.name or caller.owners`},
		{`caller➤.owner == "bot"`, `unknown name "caller.owner" in the condition`, `did you mean "caller.owners"?`},
		{`'query.n ➤> 100'`, `the condition is not valid: found no matching overload for '_>_' applied to '(string, int)'`, ``},
		{`'query.n ==➤'`, `the condition is not valid: Syntax error: mismatched input '<EOF>'`, ``},
		{`'➤query.n'`, `the condition must be true or false, it is of type string`, `compare it with something`},
		{`'➤body.ok'`, `the condition must be true or false, it is of type dyn`, `compare it with something`},
		{`'➤now'`, `the condition must be true or false, it is of type timestamp`, `compare it with something`},
		{`➤''`, `when is empty`, ``},
		{`➤' '`, `when is empty`, ``},
		{`➤17`, `when must be text, not a number`, `put it in quotes`},
		{`➤true`, `when must be text, not true or false`, `put it in quotes`},
		{`➤[a]`, `when must be text, not a list`, ``},
		{`➤'"` + strings.Repeat("x", 2048) + `" == path'`, `when is longer than 2KiB`, ``},
		{`'➤vars.idd == "1"'`, `the path has no variable "idd"`, `did you mean "id"?`},
		{`'path == "" || ➤vars["name"] == "1"'`, `the path has no variable "name"`, ``},
		{`'has(➤vars.name)'`, `the path has no variable "name"`, ``},
		{`'dyn(➤query).x == "1"'`, `query can only be looked up in`, `write query.NAME or query["name"]`},
		{`'➤headers == {"a": "b"}'`, `headers can only be looked up in`, `write headers.NAME or headers["name"]`},
		{`'➤headers.Host == "a"'`, `the names of headers are in lower case here`, `write headers["host"]`},
		{`'path.matches(query➤.x)'`, `the pattern of matches must be a literal`, `write it out`},
		{`'path.matches(➤"(")'`, "", ``},
		{`'now.getHours(➤"Mars/Olympus") == 1'`, `unknown time zone "Mars/Olympus"`, `write "Europe/Berlin" or "+02:00"`},
		{`'now.getHours(➤"Local") == 1'`, `unknown time zone "Local"`, `write "Europe/Berlin" or "+02:00"`},
		{`'now.getHours(➤"2:00") == 1'`, `the time zone is not an offset`, `write "+02:00"`},
		{`'now.getHours(query➤.zone) == 1'`, `the time zone must be a literal`, `write it out`},
		{`'now > timestamp(➤"tomorrow")'`, "", ``},
		{`'path.replace➤("a", path) == ""'`, `the function replace is not available in conditions`, ``},
		{`'["a"].join➤() == ""'`, `the function join is not available in conditions`, ``},
		{`'➤body.all(a, body.all(b, body.all(c, a == b && b == c)))'`, `the condition may cost too much to evaluate`, `loops in loops grow fast`},
	} {
		found, line, col := whenProblems(t, whenRule(tt.when))
		require.Len(t, found, 1, tt.when)
		require.Equal(t, [2]int{line, col}, [2]int{found[0].Line, found[0].Column}, "%s: %s", tt.when, found[0])
		if tt.message != "" {
			require.Equal(t, tt.message, found[0].Message, tt.when)
			require.Equal(t, tt.hint, found[0].Hint, tt.when)
		}
	}
}

func TestAPathVariableIsKnownWhereverWhenStands(t *testing.T) {
	t.Parallel()
	for _, match := range []string{
		`{when: 'vars.id == "1"', path: "/a/{id}"}`, `{path: "/a/{id}", when: 'vars.id == "1"'}`, `{path: "/a/{id...}", when: 'vars["id"] == "1"'}`,
		`{when: 'vars.exists(v, v == "x")'}`,
	} {
		ruled(t, "{name: r, action: allow, match: "+match+"}")
	}
	found, line, col := whenProblems(t, "rules:\n  - {name: r, action: allow, match: {when: '➤vars.id == \"1\"'}}\n")
	require.Equal(t, policy.Problem{
		File: "config.yaml", Line: line, Column: col, Message: `the path has no variable "id"`, Hint: "the rule has no path with a {variable}", Excerpt: found[0].Excerpt,
	}, found[0])
}

func TestSeveralMistakesInAConditionAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	found, _, _ := whenProblems(t, whenRule(`'➤a == b && c == d && e == f && g == h && vars.x == ""'`))
	require.Len(t, found, 5, "and no more than that")
	require.Equal(t, `unknown name "a" in the condition`, found[0].Message)
	found, _, _ = whenProblems(t, "rules:\n  - {name: r, action: alow, match: {when: '➤a == 1'}}\n")
	require.Len(t, found, 2, "problems of conditions and of the rest come together")
}

func TestALoopInALoopIsAllowed(t *testing.T) {
	t.Parallel()
	conditional(t, `body.a.all(x, body.b.exists(y, x.id == y.id && y.ok == true))`)
	conditional(t, `query_all.all(name, query_all[name].all(v, v.matches("^[a-z]+$") && v != path))`)
}

func TestWhatLooksLikeACommentInATextIsNone(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`query.x == "http://a" || query.x == 'http://a'`, `query.x == r"\//" || query.x == """ "//" """`, `query.x == "\"//" && path != '\'//'`, `body.x == b"//" && 4 / 2 / 1 == 2`,
	} {
		conditional(t, when)
	}
}
