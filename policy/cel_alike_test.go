package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

const (
	spelling = ": it is given in another spelling, which servers may read as the same"
	twice    = ": it is given more than once, so that servers may read it in two ways"
)

func withBody(body string, types ...string) approvals.Call {
	call := customer()
	call.Body = []byte(body)
	for _, value := range types {
		call.Headers = append(call.Headers, approvals.Header{Name: "Content-Type", Value: value})
	}
	return call
}

func TestNamesThatDifferInCaseOnlyMakeABodyUnreadable(t *testing.T) {
	t.Parallel()
	c := conditional(t, `body.amount > 100`)
	for _, body := range []string{
		`{"amount":1,"Amount":1000}`, `{"AMOUNT":1000,"amount":1}`, `{"amount":1,"x":[{"İd":1,"id":2}]}`, `{"amount":1,"\u212aey":1,"key":2}`, `{"amount":1,"ſ":1,"S":1}`,
	} {
		require.Equal(t, unclear+"names in the body differ in case only, so that servers may read it in two ways", conditionalPlan(t, c, withBody(body)).Reason, body)
	}
}

func TestAFieldInAnotherSpellingIsNotMissing(t *testing.T) {
	t.Parallel()
	for when, part := range map[string]string{
		`body.amount > 100`: "body.amount", `has(body.amount) && body.amount > 100`: "", `"amount" in body`: "", `body["amount"] == 1`: `body["amount"]`,
		`!has(body.amount)`: "", `has(body.l[0].sku)`: "", `body == {"l": [], "amount": 1, "aMount": 1}`: "", `body.Amount == 1 && body.l[0].sku == ""`: "body.l[0].sku",
	} {
		got := conditionalPlan(t, conditional(t, when), withBody(`{"Amount":1,"l":[{"SKU":""}],"x":2}`))
		require.Contains(t, got.Reason, "it is given in another spelling", "%s %s", when, part)
		require.Equal(t, approvals.ActionDeny, got.Action)
	}
	require.Equal(t, "guarded", conditionalPlan(t, conditional(t, `body.Amount == 1 && type(body) == map && size(body) == 1 && body.all(k, body[k] == 1) && body == {"Amount": 1}`), withBody(`{"Amount":1}`)).Reason)
}

func TestABodyIsReadOnlyWhenItIsSaidToBeJSON(t *testing.T) {
	t.Parallel()
	c := conditional(t, `body.amount > 100`)
	for _, said := range [][]string{
		{"application/x-www-form-urlencoded"},
		{"application/json; charset=utf-16"},
		{"application/xml"},
		{"text/plain"},
		{""},
		{"application/json, text/plain"},
		{"application/json", "application/json"},
		{"application/json; charset*=utf-8''utf-16"},
		{"application/json; charset=utf-8; charset=utf-7"},
		{"application/jsonp"},
		{"text/json"},
	} {
		require.Equal(t, unclear+"the body is not said to be JSON in UTF-8, by one Content-Type at most", conditionalPlan(t, c, withBody(`{"amount":200}`, said...)).Reason, said)
	}
	for _, said := range [][]string{
		nil, {"application/json"}, {"Application/JSON; Charset=UTF-8"}, {"application/merge-patch+json"}, {`application/vnd.x+json; charset="utf-8"; version=1`},
	} {
		require.Equal(t, "guarded", conditionalPlan(t, c, withBody(`{"amount":200}`, said...)).Reason, said)
	}
	require.Equal(t, "guarded", conditionalPlan(t, conditional(t, `body == null`), withBody("", "text/plain")).Reason, "there is no body")
}

func TestAQueryNameThatServersMayTakeForAnotherCountsAsThatOne(t *testing.T) {
	t.Parallel()
	read, has := conditional(t, `query.amount == "1"`), conditional(t, `has(query.amount)`)
	list := conditional(t, `query_all.amount.all(a, a == "1")`)
	for _, more := range []string{
		"amount%5B%5D=9", "Amount=9", "amount%00=9", "%20amount=9", "amount+=9", "amount[0]=9", "amount[a][b]=9", "AMOUNT[]=9", "amount%00x=9", "amount[=9", "amount+[]=9",
	} {
		call := customer()
		call.Query = "amount=1&" + more
		require.Equal(t, unclear+"query.amount"+twice, conditionalPlan(t, read, call).Reason, more)
		require.Equal(t, unclear+"query_all.amount"+twice, conditionalPlan(t, list, call).Reason, more)
		require.Equal(t, "guarded", conditionalPlan(t, has, call).Reason, more)
		call.Query = more
		require.Equal(t, unclear+"query.amount"+spelling, conditionalPlan(t, read, call).Reason, more)
		require.Contains(t, conditionalPlan(t, has, call).Reason, "another spelling", more)
	}
	for _, more := range []string{"amounts=9", "amount.x=9", "x[amount]=9", "a[]=1&a[]=2", "A=1&a=2"} {
		call := customer()
		call.Query = "amount=1&" + more
		require.Equal(t, "guarded", conditionalPlan(t, read, call).Reason, more)
	}
}

func TestANameInBracketsIsApartFromOthersBesideIt(t *testing.T) {
	t.Parallel()
	c := conditional(t, `query["filter[name]"] == "1"`)
	for query, reason := range map[string]string{
		"filter[name]=1&filter[age]=2": "guarded", "filter[name]=1&filter=2": unclear + `query["filter[name]"]` + twice,
		"filter[name]=1&filter[Name]=2": unclear + `query["filter[name]"]` + twice, "filter[name]=1&filter[name][x]=2": unclear + `query["filter[name]"]` + twice,
		"filter[name]=1&a[[[[[[[[[=2": unclear + "the query can be read in more than one way",
	} {
		call := customer()
		call.Query = query
		require.Equal(t, reason, conditionalPlan(t, c, call).Reason, query)
	}
}
