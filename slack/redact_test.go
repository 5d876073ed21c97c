package slack_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func redacting(body string, rules ...string) func(*approvals.Submission, *approvals.Plan) {
	return func(s *approvals.Submission, p *approvals.Plan) { s.Call.Body, p.Redact = []byte(body), rules }
}

func TestBodyValuesAreRedactedAndTheRestIsShownAsItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, rule, want string }{
		{`{"ssn":"canary","a":1}`, "body.ssn", `{"ssn":"[redacted]","a":1}`},
		{`{ "ssn" : 123canary }`, "body.x", "\"[redacted]\""}, // not JSON
		{`{ "ssn" : "canary" , "b": [ 1,2 ] }`, "body.ssn", `{ "ssn" : "[redacted]" , "b": [ 1,2 ] }`},
		{`{"SSN":"canary"}`, "body.ssn", `{"SSN":"[redacted]"}`},
		{`{"ss\u006e":"canary"}`, "body.ssn", `{"ss\u006e":"[redacted]"}`},
		{`{"ssn":"canary","ssn":"canary"}`, "body.ssn", `{"ssn":"[redacted]","ssn":"[redacted]"}`},
		{`{"u":{"ssn":{"x":["canary"]}},"ssn":"kept"}`, "body.u.ssn", `{"u":{"ssn":"[redacted]"},"ssn":"kept"}`},
		{`{"u":[{"ssn":"canary"},{"ssn":"canary"}]}`, "body.u.ssn", `{"u":[{"ssn":"[redacted]"},{"ssn":"[redacted]"}]}`},
		{`{"u":[{"ssn":"kept"},{"ssn":"canary"}]}`, "body.u[1].ssn", `{"u":[{"ssn":"kept"},{"ssn":"[redacted]"}]}`},
		{`{"u":{"a":{"ssn":"canary"}}}`, "body.u.*.ssn", `{"u":{"a":{"ssn":"[redacted]"}}}`},
		{`{"a.b":"canary"}`, "body.a.b", `{"a.b":"[redacted]"}`},
		{`[[{"ssn":"canary"}]]`, "body.ssn", `[[{"ssn":"[redacted]"}]]`},
		{`{"ssn":null,"n":-1.5e9}`, "body.$.ssn", `{"ssn":"[redacted]","n":-1.5e9}`},
		{`"canary"`, "body", `"[redacted]"`},
		{`plain canary`, "body", `"[redacted]"`},
		{`ssn=canary&a=1&s%73n=canary&ssn[]=canary`, "body.ssn", `ssn="[redacted]"&a=1&s%73n="[redacted]"&ssn[]="[redacted]"`},
	} {
		v := pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
			redacting(c.body, c.rule)(s, p)
			if strings.HasPrefix(c.body, "ssn=") {
				s.Call.Headers[0].Value = "application/x-www-form-urlencoded; charset=utf-8"
			}
		})
		m := slack.Card(v)
		_, shown, _ := strings.Cut(shownRequest(m), "\n\n")
		require.Equal(t, c.want, shown, c.body)
		require.NotContains(t, pretty(t, m), "canary", c.body)
		require.Contains(t, accountOf(m), "redacted")
	}
}

func TestABodyThatCannotBeRedactedIsHiddenAndCannotBeApproved(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"ssn: canary", `{"ssn":"canary"`, `{"ssn":"canary"}{"ssn":"canary"}`, `{"ssn":"canary",}`, "\xef\xbb\xbf" + `{"ssn":"canary"}`,
		`{'ssn':'canary'}`, "<ssn>canary</ssn>", strings.Repeat("[", 300) + `"canary"` + strings.Repeat("]", 300), "ssn=canary",
	} {
		m := slack.Card(pendingView(t, redacting(body, "body.ssn")))
		require.NotContains(t, pretty(t, m), "canary", body)
		require.Equal(t, []string{slack.ActionDeny, slack.ActionAsk, slack.ActionView}, buttons(m), body)
	}
}

func TestARuleThatIsNotUnderstoodHidesEverythingItMightMean(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"path.id", "", "ssn", "bodyssn", "$.body.ssn"} {
		m := slack.Card(pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
			redacting(`{"ssn":"canary"}`, rule)(s, p)
			s.Call.Query, s.Call.Headers[0].Value = "ssn=canary", "canary"
		}))
		require.NotContains(t, pretty(t, m), "canary", rule)
		require.Equal(t, []string{slack.ActionDeny, slack.ActionAsk, slack.ActionView}, buttons(m), rule)
	}
}

func TestNestedListsDoNotMultiplyTheWork(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("[", 90) + `{"x":"canary"}` + strings.Repeat("]", 90)
	m := slack.Card(pendingView(t, redacting(body, "body.*.*.*.*.*.*.*.*.*.*.*.*.x")))
	require.NotContains(t, pretty(t, m), "canary")
}

func TestQueryValuesAreRedacted(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{ //nolint:gosec // none of these is a credential
		"token=canary":                          "?token=[redacted]",
		"a=1&TOKEN=canary&b=2":                  "?a=1&TOKEN=[redacted]&b=2",
		"a=1;token=canary":                      "?a=1;token=[redacted]",
		"t%6fken=canary":                        "?t%6fken=[redacted]",
		"token[]=canary&token[a]=canary":        "?token[]=[redacted]&token[a]=[redacted]",
		"%zz=canary":                            "?%zz=[redacted]",
		"token=canary&token=can=ary&x":          "?token=[redacted]&token=[redacted]&x",
		"token":                                 "?token",
		"a=1&&token=canary&":                    "?a=1&&token=[redacted]&",
		"xtoken=kept&tokens=kept&a=token=kept2": "?xtoken=kept&tokens=kept&a=token=kept2",
	} {
		m := slack.Card(pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
			s.Call.Query, p.Redact = raw, []string{"query.token"}
		}))
		line, _, _ := strings.Cut(shownRequest(m), "\n")
		require.Equal(t, "DELETE https://billing.internal/v1/customers/42"+want, line)
		require.NotContains(t, pretty(t, m), "canary")
		require.Contains(t, buttons(m), slack.ActionApprove)
		require.Equal(t, strings.Contains(want, "[redacted]"), strings.Contains(accountOf(m), "query: "), raw)
	}
}

func TestHeadersThatHoldSecretsAreAlwaysRedacted(t *testing.T) {
	t.Parallel()
	names := []string{
		"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "X-AUTH-TOKEN", "Client-Secret", "Idempotency-Key", "X-Password", "x-custom",
	}
	m := slack.Card(pendingView(t, func(s *approvals.Submission, p *approvals.Plan) {
		s.Call.Headers = nil
		for _, name := range names {
			s.Call.Headers = append(s.Call.Headers, approvals.Header{Name: name, Value: "canary"})
		}
		s.Call.Headers = append(s.Call.Headers, approvals.Header{Name: "Accept", Value: "kept"})
		p.Redact = []string{"headers.X-Custom"}
	}))
	require.NotContains(t, pretty(t, m), "canary")
	require.Contains(t, shownRequest(m), "Accept: kept")
	require.Contains(t, accountOf(m), "headers: 1 shown, 9 redacted")
}

func TestAllHeadersCanBeRedacted(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"headers", "headers.*"} {
		m := slack.Card(pendingView(t, func(_ *approvals.Submission, p *approvals.Plan) { p.Redact = []string{rule} }))
		require.Contains(t, accountOf(m), "headers: 0 shown, 2 redacted")
	}
}

// A value that is hidden while it is decided on stays hidden ever after.
func TestRedactionHoldsInEveryStateAndEveryMessage(t *testing.T) {
	t.Parallel()
	s, p := submission(), plan()
	s.Call.Query, s.Call.Body = "token=canary", []byte(`{"ssn":"canary"}`)
	s.Call.Headers[1].Value = "canary"
	p.Redact = []string{"query.token", "body.ssn"}
	pending := submitted(t, s, p)
	running := executing(t, approved(t, pending, "bo", "chen"))
	for _, ticket := range []approvals.Ticket{
		pending, running, decided(t, pending, "bo", approvals.Deny, "no"), finished(t, running, answered(200, true)),
	} {
		v := viewOf(ticket, 0)
		for _, m := range messagesOf(v) {
			require.NotContains(t, pretty(t, m), "canary")
		}
		require.NotContains(t, pretty(t, slack.DenyModal(v)), "canary")
	}
}

func FuzzRedactedBodyShowsNoCanary(f *testing.F) {
	f.Add(`{"a":%s}`, "a")
	f.Add(`{"a":{"b":[%s,1]}}`, "a.b")
	f.Add(`[{"a":%s}]`, "a")
	f.Add(`{"a":1,"A":%s}`, "*")
	f.Fuzz(func(t *testing.T, frame, path string) {
		before, after, found := strings.Cut(frame, "%s")
		if !found || strings.Contains(frame, "canary") || strings.Contains(path, "canary") {
			return
		}
		s, p := submission(), plan()
		s.Call.Body, p.Redact = []byte(before+`"canary"`+after), []string{"body." + path}
		m := slack.Card(viewOf(submitted(t, s, p), 0))
		require.NoError(t, slack.Lint(m))
		if strings.Contains(accountOf(m), "redacted · headers") { // something of the body is hidden: the rest must be the frame
			_, shown, _ := strings.Cut(shownRequest(m), "\n\n")
			require.LessOrEqual(t, strings.Count(shown, "canary"), 1)
		}
	})
}
