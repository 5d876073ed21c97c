package slack_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

// FuzzDifferentRequestsDifferentCards takes two calls apart that differ in anything their
// digest covers: neither their cards nor their full views are ever the same.
func FuzzDifferentRequestsDifferentCards(f *testing.F) {
	f.Add("DELETE", "/customers/42", "hard=true", "Accept", "a", []byte("{}"), "DELETE", "/customers/43", "hard=true", "Accept", "a", []byte("{}"))
	f.Add("GET", "/a", "", "X-Token", "1", []byte(`{"pin":1}`), "GET", "/a", "", "X-Token", "2", []byte(`{"pin":1}`))
	f.Add("GET", "/a", "", "A", "b", []byte(`{"pin":1}`), "GET", "/a", "", "A", "b", []byte(`{"pin":2}`))
	f.Add("GET", "/a", "", "A", "b", []byte("\xe2\x80\xae"), "GET", "/a", "", "A", "b", []byte(`\u202e`))
	f.Add("GET", "/a", "", "A", "b", []byte("\\u202e\xe2\x80\xae"), "GET", "/a", "", "A", "b", []byte("\xe2\x80\xae\\u202e"))
	f.Add("GET", "/a", "b=", "A", "b", []byte(nil), "GET", "/a?b=", "", "A", "b", []byte(nil))
	f.Add("GET", "/a", "", "A", "b\nC: d", []byte("x"), "GET", "/a", "", "A", "b", []byte("C: d\n\nx"))
	f.Add("PUT", "/", "", "", "", bytes.Repeat([]byte("x"), 20_000), "PUT", "/", "", "", "", append(bytes.Repeat([]byte("x"), 19_999), 'y'))
	f.Fuzz(func(t *testing.T, m1, p1, q1, n1, v1 string, b1 []byte, m2, p2, q2, n2, v2 string, b2 []byte) {
		make1 := func(method, path, query, name, value string, body []byte) slack.View {
			return callView(approvals.Call{
				Upstream: "billing-admin", Method: method, Path: path, Query: query, Headers: []approvals.Header{{Name: name, Value: value}}, Body: body,
			})
		}
		one, two := make1(m1, p1, q1, n1, v1, b1), make1(m2, p2, q2, n2, v2, b2)
		requireTold(t, one, two)
		one.Confirm, two.Confirm = approvals.ConfirmCode, approvals.ConfirmCode
		requireTold(t, one, two)
	})
}

func callView(call approvals.Call) slack.View {
	s, p := submission(), plan()
	p.Redact = []string{"body.pin", "query.pin"}
	s.Call = call
	return viewOf(harmlessly(s, p), 0)
}

// requireTold demands that two views look different exactly if they are of different calls.
func requireTold(t *testing.T, one, two slack.View) {
	t.Helper()
	same := one.Ticket.Digest == two.Ticket.Digest
	a, b := slack.Card(one), slack.Card(two)
	require.Equal(t, same, a.Hash() == b.Hash())
	r, q := slack.NewReview(one), slack.NewReview(two)
	require.Equal(t, same, r.Hash() == q.Hash())
	page := func(r slack.Review) string {
		return slack.Message{Blocks: r.Modal(reviewHandle, 1, slack.ReviewApprove).Blocks.BlockSet}.Hash()
	}
	require.Equal(t, same, page(r) == page(q), "on the first page already")
	for _, m := range []slack.Message{a, b} {
		require.NoError(t, slack.Lint(m))
		require.NotContains(t, string(m.JSON()), one.Ticket.Digest[:16], "only the keyed fingerprint is shown")
	}
}
