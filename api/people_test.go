package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/identity"
)

// as makes a request in the name of a person, by their personal key.
func (b *bundle) as(t *testing.T, person, method, path, body string) reply {
	t.Helper()
	return b.do(t, call{method: method, path: path, body: body, key: b.people[person]})
}

func (b *bundle) post(t *testing.T, person, id, what, body string) reply {
	t.Helper()
	return b.as(t, person, "POST", "/v1/tickets/"+id+"/"+what, body)
}

func (b *bundle) stored(t *testing.T, id string) approvals.Ticket {
	t.Helper()
	out, err := b.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "read ticket %s", id)
	return out
}

// verdict is the body of a decision on a ticket as it is.
func (b *bundle) verdict(t *testing.T, id, verdict, comment string) string {
	t.Helper()
	return fmt.Sprintf(`{"verdict":%q,"digest":%q,"comment":%q}`, verdict, b.stored(t, id).Digest, comment)
}

// doubt takes a ticket to outcome_unknown.
func (b *bundle) doubt(t *testing.T, id string) {
	t.Helper()
	b.approve(t, id, "bo")
	b.begin(t, id)
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{Kind: approvals.Unknown}, now)
	})
}

const (
	urgent = `{"upstream":"billing","method":"PATCH","path":"/customers/42","query":{"token":"s3cret"},"justification":"now"}`
	staged = `{"upstream":"billing","method":"HEAD","path":"/customers/42"}`
)

func TestPersonalKeyOpensTheAPIForItsPersonOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, http.StatusOK, b.as(t, "bo", "GET", "/v1/tickets", "").status, "a personal key")
	require.Contains(t, b.logs.String(), `"person":"bo"`, "the log names the person")
	require.NotContains(t, b.logs.String(), b.people["bo"][4:], "keys are in no log")
	for name, key := range map[string]string{
		"unknown": "csp_abcdefgh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cut": b.people["bo"][:50],
		"of the other kind": "csk_" + strings.TrimPrefix(b.people["bo"], "csp_"), "a caller's, dressed up": "csp_" + strings.TrimPrefix(b.key, "csk_"),
		"a word": "csp_", "a token where none are taken": "a.b.c",
	} {
		requireProblem(t, b.do(t, call{method: "GET", path: "/v1/tickets", key: key}), http.StatusUnauthorized, "unauthenticated")
		require.NotEmpty(t, name)
	}
}

func TestFailedPersonalKeysAndTokensAreSlowedDown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) {
		c.Identify = func(context.Context, string) (identity.Identity, error) {
			return identity.Identity{}, identity.ErrInvalid
		}
	})
	for i := range 10 {
		key := []string{"csp_wrong", "a.b.c"}[i%2]
		requireProblem(t, b.do(t, call{method: "GET", path: "/v1/tickets", key: key}), http.StatusUnauthorized, "unauthenticated")
	}
	for _, key := range []string{"csp_wrong", "a.b.c", "csk_wrong"} {
		requireProblem(t, b.do(t, call{method: "GET", path: "/v1/tickets", key: key}), http.StatusTooManyRequests, "quota_exceeded")
	}
	require.Equal(t, http.StatusOK, b.as(t, "bo", "GET", "/v1/tickets", "").status, "a valid key is not held up")
}

func TestTokensOfAnIdentityProviderNamePeople(t *testing.T) {
	t.Parallel()
	const issuer = "https://login.example.com"
	b := setup(t, func(c *api.Config) {
		c.Identify = func(_ context.Context, token string) (identity.Identity, error) {
			switch token {
			case "chen.by.subject":
				return identity.Identity{Issuer: issuer, Subject: "chen-1"}, nil
			case "bo.by.address":
				return identity.Identity{Issuer: issuer, Subject: "bo-1", Email: "BO@example.com"}, nil
			case "nobody.we.know":
				return identity.Identity{Issuer: issuer, Subject: "zed", Email: "zed@example.com"}, nil
			case "another.issuers.subject":
				return identity.Identity{Issuer: "https://evil.example", Subject: "chen-1", Email: "bo@example.com"}, nil
			case "provider.is.down":
				return identity.Identity{}, fmt.Errorf("%w: no route", identity.ErrUnavailable)
			case "something.went.wrong":
				return identity.Identity{Issuer: issuer, Subject: "chen-1"}, errors.New("broken")
			}
			return identity.Identity{}, fmt.Errorf("%w: forged", identity.ErrInvalid)
		}
	})
	id := b.submit(t, deletion).id(t)
	with := func(token, method, path, body string) reply {
		return b.do(t, call{method: method, path: path, body: body, key: token})
	}
	for _, token := range []string{"chen.by.subject", "bo.by.address"} {
		require.Equal(t, http.StatusOK, with(token, "GET", "/v1/tickets/"+id, "").status, token)
	}
	for _, token := range []string{"nobody.we.know", "another.issuers.subject", "forged.by.somebody"} {
		requireProblem(t, with(token, "GET", "/v1/tickets/"+id, ""), http.StatusUnauthorized, "unauthenticated")
	}
	for _, token := range []string{"provider.is.down", "something.went.wrong"} {
		r := with(token, "GET", "/v1/tickets/"+id, "")
		requireProblem(t, r, http.StatusServiceUnavailable, "unavailable")
		require.NotEmpty(t, r.header.Get("Retry-After"), "Retry-After")
		require.NotContains(t, string(r.raw), "no route", "why is nobody's business")
	}
	r := with("chen.by.subject", "POST", "/v1/tickets/"+id+"/decisions", b.verdict(t, id, "approve", ""))
	require.Equal(t, http.StatusOK, r.status, "decide: %s", r.raw)
	d := b.stored(t, id).Decisions[0]
	require.Equal(t, []string{"chen", "api", issuer + " chen-1"}, []string{d.Person, d.Via, d.Ref}, "who decided, and how we know")
}

func TestPeopleDecideOverTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	r := b.post(t, "bo", id, "decisions", b.verdict(t, id, "approve", "asked the customer"))
	require.Equal(t, http.StatusOK, r.status, "approve: %s", r.raw)
	require.Equal(t, []any{"pending", 1.0}, []any{r.field(t, "state"), r.field(t, "stage", "have")}, "one of two")
	require.Equal(t, `"`+fmt.Sprint(b.stored(t, id).Version)+`"`, r.header.Get("ETag"), "ETag")
	decisions, _ := r.field(t, "decisions").([]any)
	d, _ := decisions[0].(map[string]any)
	require.Equal(t, []any{"bo", "approve", "asked the customer", "api"}, []any{d["person"], d["verdict"], d["comment"], d["via"]}, "the decision")
	r = b.post(t, "chen", id, "decisions", b.verdict(t, id, "approve", ""))
	require.Equal(t, "approved", r.field(t, "state"), "two of two")
	require.Nil(t, r.field(t, "break_glass"), "nothing was bypassed")
	events, err := b.store.Events(t.Context(), db.Ref{ID: id}, 1, 10)
	require.NoError(t, err, "read the events")
	require.Equal(t, approvals.Actor{Kind: approvals.ActorPerson, Name: "bo", Via: "api", Ref: "key"}, events[0].Actor, "actor")
	require.NotContains(t, string(b.get(t, "/v1/tickets/"+id+"/events").raw), `"ref"`, "how we know is not shown")

	id = b.submit(t, deletion).id(t)
	r = b.post(t, "bo", id, "decisions", b.verdict(t, id, "deny", "not without a contract"))
	require.Equal(t, "denied", r.field(t, "state"), "one no is enough: %s", r.raw)
}

func TestRefusedDecisionsSayWhyAndAreRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	type refusal struct {
		who, body    string
		status       int
		code, reason string
	}
	digest := func(id string) string { return b.stored(t, id).Digest }
	for name, c := range map[string]struct {
		submit   string
		prepare  func(id string)
		want     func(id string) refusal
		recorded bool
	}{
		"the requester's own": {deletion, nil, func(id string) refusal {
			return refusal{"olaf", b.verdict(t, id, "approve", ""), 403, "self_approval", "requester"}
		}, true},
		"an operator who is no approver": {deletion, nil, func(id string) refusal {
			return refusal{"dora", b.verdict(t, id, "approve", ""), 403, "not_approver", "not an approver"}
		}, true},
		"an approver of a later stage": {staged, nil, func(id string) refusal {
			return refusal{"eva", b.verdict(t, id, "approve", ""), 403, "not_approver", "not an approver"}
		}, true},
		"twice": {strings.Replace(deletion, "DELETE", "PUT", 1), func(id string) { b.approve(t, id, "bo") }, func(id string) refusal {
			return refusal{"bo", b.verdict(t, id, "deny", "second thoughts"), 409, "already_decided", "counts once"}
		}, true},
		"about an earlier stage": {staged, func(id string) { b.approve(t, id, "bo") }, func(id string) refusal {
			return refusal{"eva", fmt.Sprintf(`{"verdict":"approve","stage":1,"digest":%q}`, digest(id)), 409, "stale", "stage 2 of 2"}
		}, true},
		"about a stage to come": {staged, nil, func(id string) refusal {
			return refusal{"bo", fmt.Sprintf(`{"verdict":"approve","stage":2,"digest":%q}`, digest(id)), 409, "stale", "stage 1 of 2"}
		}, true},
		"about a stage beyond": {staged, nil, func(id string) refusal {
			return refusal{"bo", fmt.Sprintf(`{"verdict":"approve","stage":9000000000,"digest":%q}`, digest(id)), 409, "stale", "stage 1 of 2"}
		}, true},
		"about something else": {deletion, nil, func(string) refusal {
			return refusal{"bo", `{"verdict":"approve","digest":"` + strings.Repeat("0", 64) + `"}`, 409, "digest_mismatch", "not what"}
		}, true},
		"about nothing": {deletion, nil, func(string) refusal {
			return refusal{"bo", `{"verdict":"approve","digest":""}`, 409, "digest_mismatch", "not what"}
		}, true},
		"too late": {deletion, func(id string) { b.approve(t, id, "bo") }, func(id string) refusal {
			return refusal{"chen", b.verdict(t, id, "deny", "no"), 409, "conflict", "already decided"}
		}, true},
		"after the end": {deletion, func(id string) { b.decide(t, id, "bo", approvals.Deny) }, func(id string) refusal {
			return refusal{"chen", b.verdict(t, id, "approve", ""), 409, "already_final", "denied"}
		}, true},
		"without a comment": {urgent, nil, func(id string) refusal {
			return refusal{"bo", b.verdict(t, id, "approve", " "), 422, "comment_required", "comment"}
		}, false},
		"glass that is not theirs": {urgent, nil, func(id string) refusal {
			return refusal{"bo", b.verdict(t, id, "break_glass", "fire"), 403, "not_approver", "break the glass"}
		}, true},
		"glass of their own call": {urgent, nil, func(id string) refusal {
			return refusal{"olaf", b.verdict(t, id, "break_glass", "fire"), 403, "self_approval", "requester"}
		}, true},
		"glass without a comment": {urgent, nil, func(id string) refusal {
			return refusal{"eva", b.verdict(t, id, "break_glass", ""), 422, "comment_required", "comment"}
		}, false},
		"no verdict": {deletion, nil, func(id string) refusal {
			return refusal{"bo", b.verdict(t, id, "maybe", ""), 422, "validation_failed", "approve, deny or break_glass"}
		}, false},
		"stage 0": {deletion, nil, func(id string) refusal {
			return refusal{"bo", fmt.Sprintf(`{"verdict":"approve","stage":0,"digest":%q}`, digest(id)), 422, "validation_failed", "from 1"}
		}, false},
		"a long comment": {deletion, nil, func(id string) refusal {
			return refusal{"bo", b.verdict(t, id, "approve", strings.Repeat("x", 1001)), 422, "validation_failed", "1000"}
		}, false},
		"an unknown field": {deletion, nil, func(id string) refusal {
			return refusal{"bo", fmt.Sprintf(`{"verdict":"approve","digest":%q,"person":"chen"}`, digest(id)), 400, "invalid_body", "person"}
		}, false},
		"no digest": {deletion, nil, func(string) refusal {
			return refusal{"bo", `{"verdict":"approve"}`, 400, "invalid_body", "digest"}
		}, false},
		"nothing": {deletion, nil, func(string) refusal { return refusal{"bo", "", 400, "malformed_json", "empty"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := b.submit(t, c.submit).id(t)
			if c.prepare != nil {
				c.prepare(id)
			}
			before := b.stored(t, id)
			want := c.want(id)
			r := b.post(t, want.who, id, "decisions", want.body)
			requireProblem(t, r, want.status, want.code)
			require.Contains(t, r.field(t, "detail"), want.reason, "why")
			after := b.stored(t, id)
			require.Equal(t, before.State, after.State, "nothing was decided")
			require.Len(t, after.Decisions, len(before.Decisions), "decisions")
			recorded := 0
			if c.recorded {
				recorded = 1
			}
			require.Equal(t, before.Refusals+recorded, after.Refusals, "refusals on record")
		})
	}
}

func TestNeededLaterAndAwayAreRefusedInTheirOwnWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config = parseConfig(t, b.text(t, `
  - name: scarce
    match: {upstream: billing, methods: [DELETE], path: "/customers/{id}"}
    stages:
      - {name: first, need: [{from: [bo, chen], approvals: 1}], notify: {channel: "#c"}}
      - {name: second, need: [{from: [chen], approvals: 1}], notify: {channel: "#c"}}
  - name: pair
    match: {upstream: billing, methods: [POST], path: "/customers/{id}"}
    stages: [{name: pair, need: [{from: [bo, sam], approvals: 1}, {from: [chen, eva], approvals: 1}], notify: {channel: "#c"}}]
`, ""))
	id := b.submit(t, deletion).id(t)
	requireProblem(t, b.post(t, "chen", id, "decisions", b.verdict(t, id, "approve", "")), http.StatusConflict, "needed_later")
	id = b.submit(t, strings.Replace(deletion, "DELETE", "POST", 1)).id(t)
	b.approve(t, id, "bo")
	requireProblem(t, b.post(t, "sam", id, "decisions", b.verdict(t, id, "approve", "")), http.StatusConflict, "not_needed")

	until := b.clock.now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	id = b.submit(t, strings.Replace(deletion, "DELETE", "POST", 1)).id(t)
	b.config = parseConfig(t, b.text(t, "", `, away: {until: "`+until+`"}`))
	r := b.post(t, "eva", id, "decisions", b.verdict(t, id, "approve", ""))
	requireProblem(t, r, http.StatusForbidden, "away")
	require.NotContains(t, b.as(t, "bo", "GET", "/v1/tickets/"+id, "").field(t, "waiting_for"), "eva", "those who are away are not waited for")
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// text is the configuration with the keys of this bundle, with rules before all others, and
// with more about eva.
func (b *bundle) text(t *testing.T, rules, eva string) string {
	t.Helper()
	text := configuration
	for who, key := range b.people {
		text = strings.Replace(text, "KEY_"+who, hashOf(key), 1)
	}
	text = strings.Replace(text, "rules:\n", "rules:\n"+strings.TrimPrefix(rules, "\n"), 1)
	return strings.Replace(text, "slack: U02EVA", "slack: U02EVA"+eva, 1)
}

func TestBrokenGlassIsShownAsThat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, urgent).id(t)
	r := b.post(t, "eva", id, "decisions", b.verdict(t, id, "break_glass", "the site is down"))
	require.Equal(t, http.StatusOK, r.status, "break the glass: %s", r.raw)
	require.Equal(t, "approved", r.field(t, "state"), "state")
	require.Equal(t, []any{"eva", "the site is down"}, []any{r.field(t, "break_glass", "person"), r.field(t, "break_glass", "comment")}, "who, and why")
	require.Contains(t, string(b.get(t, "/v1/tickets/"+id+"/events").raw), `"ticket.glass_broken"`, "the event")
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		gone := b.config.Directory()
		gone.People = map[string]approvals.Person{"bo": gone.People["bo"], "chen": gone.People["chen"]}
		tr, _ := tk.Claim("worker-7", gone, tk.Plan, now)
		return tr, nil
	})
	r = b.get(t, "/v1/tickets/"+id)
	require.Equal(t, "pending", r.field(t, "state"), "it stands no more")
	require.Nil(t, r.field(t, "break_glass"), "and is not shown as if it did")
}

func TestQuestionsAreAskedAndAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	requireProblem(t, b.post(t, "olaf", id, "answers", `{"answer":"yes"}`), http.StatusConflict, "conflict")
	r := b.post(t, "bo", id, "questions", `{"question":"which contract?"}`)
	require.Equal(t, http.StatusOK, r.status, "ask: %s", r.raw)
	require.Equal(t, "needs_info", r.field(t, "state"), "state")
	require.Equal(t, []any{"bo", "which contract?"}, []any{r.field(t, "question", "person"), r.field(t, "question", "text")}, "the question")
	requireProblem(t, b.post(t, "chen", id, "questions", `{"question":"and why?"}`), http.StatusConflict, "conflict")
	requireProblem(t, b.post(t, "bo", id, "answers", `{"answer":"mine"}`), http.StatusForbidden, "not_requester")
	requireProblem(t, b.post(t, "dora", id, "answers", `{"answer":"hers"}`), http.StatusForbidden, "not_requester")
	require.Equal(t, 3, b.stored(t, id).Refusals, "all three are on record")

	r = b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/answers", body: `{"answer":"4711"}`})
	require.Equal(t, http.StatusOK, r.status, "answer: %s", r.raw)
	for who, seen := range map[string]reply{"the caller": b.get(t, "/v1/tickets/"+id), "the asker": b.as(t, "bo", "GET", "/v1/tickets/"+id, "")} {
		require.Equal(t, "pending", seen.field(t, "state"), "state for %s", who)
		require.Equal(t, []any{"bo", "which contract?", "4711"},
			[]any{seen.field(t, "question", "person"), seen.field(t, "question", "text"), seen.field(t, "question", "answer")}, "shown to %s", who)
	}
	b.post(t, "chen", id, "questions", `{"question":"since when?"}`)
	r = b.post(t, "olaf", id, "answers", `{"answer":"May"}`)
	require.Equal(t, []any{"since when?", "May"}, []any{r.field(t, "question", "text"), r.field(t, "question", "answer")}, "the latest")
	events, err := b.store.Events(t.Context(), db.Ref{ID: id}, 0, 100)
	require.NoError(t, err, "read the events")
	var answered []approvals.Actor
	for _, e := range events {
		if e.Type == approvals.EventAnswered {
			answered = append(answered, e.Actor)
		}
	}
	require.Equal(t, []approvals.Actor{
		{Kind: approvals.ActorCaller, Name: "payroll", Via: "api", Ref: "key main"}, {Kind: approvals.ActorPerson, Name: "olaf", Via: "api", Ref: "key"},
	}, answered, "who answered")
	for body, code := range map[string]string{
		`{"question":""}`: "validation_failed", `{"question":"` + strings.Repeat("x", 1501) + `"}`: "validation_failed",
		`{"question":"a\u0000b"}`: "validation_failed", `{"question":"x","to":"y"}`: "invalid_body", `{}`: "invalid_body",
	} {
		r := b.post(t, "bo", id, "questions", body)
		require.Equal(t, code, r.field(t, "code"), "ask %s", body)
	}
	requireProblem(t, b.post(t, "olaf", id, "answers", `{"answer":"`+strings.Repeat("x", 4097)+`"}`), 422, "validation_failed")
}

func TestOneForWhomTheCallIsMadeMayAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "{", `{"on_behalf_of":"sam@example.com",`, 1)).id(t)
	b.post(t, "bo", id, "questions", `{"question":"which contract?"}`)
	r := b.post(t, "sam", id, "answers", `{"answer":"4711"}`)
	require.Equal(t, http.StatusOK, r.status, "answer: %s", r.raw)
}

func TestOperatorsResolveWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	const body = `{"outcome":"succeeded","reason":"the customer is gone"}`
	requireProblem(t, b.post(t, "dora", id, "resolve", body), http.StatusConflict, "conflict")
	b.doubt(t, id)
	requireProblem(t, b.post(t, "bo", id, "resolve", body), http.StatusForbidden, "not_operator")
	requireProblem(t, b.post(t, "ana", id, "resolve", body), http.StatusForbidden, "self_approval")
	require.Equal(t, 2, b.stored(t, id).Refusals, "both are on record")
	requireProblem(t, b.post(t, "dora", id, "resolve", `{"outcome":"denied","reason":"x"}`), 422, "validation_failed")
	requireProblem(t, b.post(t, "dora", id, "resolve", `{"outcome":"failed","reason":""}`), 422, "validation_failed")
	r := b.post(t, "dora", id, "resolve", body)
	require.Equal(t, http.StatusOK, r.status, "resolve: %s", r.raw)
	require.Equal(t, []any{"succeeded", nil}, []any{r.field(t, "state"), r.field(t, "error")}, "state")
	requireProblem(t, b.post(t, "dora", id, "resolve", body), http.StatusConflict, "conflict")

	id = b.submit(t, deletion).id(t)
	b.doubt(t, id)
	r = b.post(t, "dora", id, "resolve", `{"outcome":"failed","reason":"never arrived"}`)
	require.Equal(t, []any{"failed", "resolved_as_failed", "never arrived"},
		[]any{r.field(t, "state"), r.field(t, "error", "code"), r.field(t, "error", "detail")}, "failed")
}

func TestTicketsThatDoNotConcernAPersonDoNotExistForThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain, glass, stages := b.submit(t, deletion).id(t), b.submit(t, urgent).id(t), b.submit(t, staged).id(t)
	other := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, key: b.other, header: headers("Idempotency-Key", "k")}).id(t)
	behalf := b.submit(t, strings.Replace(deletion, "{", `{"on_behalf_of":"sam",`, 1)).id(t)
	all := []string{plain, glass, stages, other, behalf}
	for person, sees := range map[string][]string{
		"bo":   all,                            // in the group that is asked
		"ana":  all,                            // owner, and operator
		"dora": all,                            // operator
		"olaf": {plain, glass, stages, behalf}, // owner of payroll only
		"eva":  {glass, stages},                // may break the glass; a later stage
		"sam":  {behalf},                       // the call is made for them
	} {
		var listed []string
		items, _ := b.as(t, person, "GET", "/v1/tickets", "").field(t, "items").([]any)
		for _, i := range items {
			m, _ := i.(map[string]any)
			id, _ := m["id"].(string)
			listed = append(listed, id)
		}
		require.ElementsMatch(t, sees, listed, "the list of %s", person)
		for _, id := range all {
			for _, path := range []string{"", "/events"} {
				r := b.as(t, person, "GET", "/v1/tickets/"+id+path, "")
				if slices.Contains(sees, id) {
					require.Equal(t, http.StatusOK, r.status, "%s reads %s%s", person, id, path)
					continue
				}
				requireProblem(t, r, http.StatusNotFound, "not_found")
				missing := b.as(t, person, "GET", "/v1/tickets/tkt_00000000000000000000000000"+path, "")
				require.Equal(t, missing.field(t, "detail"), r.field(t, "detail"), "exactly like one that does not exist")
			}
		}
	}
	r := b.as(t, "dora", "GET", "/v1/tickets?caller=other", "")
	require.Equal(t, other, r.field(t, "items").([]any)[0].(map[string]any)["id"], "an operator's list of one caller") //nolint:forcetypeassert // a test
}

func TestJoiningAGroupLaterShowsNothingThatWasAskedBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	b.config = parseConfig(t, strings.Replace(b.text(t, "", ""), "members: [ana, bo, chen]", "members: [ana, bo, chen, sam]", 1))
	requireProblem(t, b.as(t, "sam", "GET", "/v1/tickets/"+id, ""), http.StatusNotFound, "not_found")
	requireProblem(t, b.post(t, "sam", id, "decisions", b.verdict(t, id, "approve", "")), http.StatusNotFound, "not_found")
	later := b.submit(t, deletion).id(t)
	require.Equal(t, http.StatusOK, b.as(t, "sam", "GET", "/v1/tickets/"+later, "").status, "what is asked from now on")
}

func TestListOfWhatWaitsForMe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := func(person, query string) []string {
		t.Helper()
		var ids []string
		for pages, next := 0, ""; ; pages++ {
			require.Less(t, pages, 10, "pages")
			r := b.as(t, person, "GET", "/v1/tickets?"+query+"&page_token="+url.QueryEscape(next), "")
			require.Equal(t, http.StatusOK, r.status, "list %s: %s", query, r.raw)
			items, _ := r.field(t, "items").([]any)
			for _, i := range items {
				m, _ := i.(map[string]any)
				id, _ := m["id"].(string)
				ids = append(ids, id)
			}
			if next, _ = r.field(t, "next_page_token").(string); next == "" {
				return ids
			}
		}
	}
	twice := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`)
	stages := b.submit(t, staged).id(t)
	denied := b.submit(t, deletion).id(t)
	b.decide(t, denied, "chen", approvals.Deny)
	plain := b.submit(t, deletion).id(t)
	require.Equal(t, []string{plain, stages, twice}, list("bo", "waiting_for=me"), "newest first")
	require.Equal(t, []string{plain, stages, twice}, list("bo", "waiting_for=me&page_size=1"), "page by page")
	require.Empty(t, list("eva", "waiting_for=me"), "her stage is not open yet")
	require.Empty(t, list("dora", "waiting_for=me"), "an operator sees, and is not asked")
	require.Empty(t, list("olaf", "waiting_for=me"), "nor are the requester's own")
	b.approve(t, twice, "bo")
	b.approve(t, stages, "bo")
	require.Equal(t, []string{plain}, list("bo", "waiting_for=me"), "what is left")
	require.Equal(t, []string{plain, twice}, list("chen", "waiting_for=me"), "what is left for another")
	require.Equal(t, []string{stages}, list("eva", "waiting_for=me&state=pending"), "her turn")
	require.Empty(t, list("bo", "waiting_for=me&state=denied"), "what has ended waits for nobody")
	require.Empty(t, list("bo", "waiting_for=me&caller=other"), "another caller's")
	b.post(t, "chen", plain, "questions", `{"question":"why?"}`)
	require.Equal(t, []string{plain}, list("bo", "waiting_for=me"), "an open question does not stop anybody")

	requireProblem(t, b.as(t, "bo", "GET", "/v1/tickets?waiting_for=chen", ""), http.StatusBadRequest, "invalid_parameter")
	requireProblem(t, b.get(t, "/v1/tickets?waiting_for=me"), http.StatusBadRequest, "invalid_parameter")
	token, _ := b.as(t, "bo", "GET", "/v1/tickets?page_size=1", "").field(t, "next_page_token").(string)
	for _, c := range []call{
		{key: b.people["chen"], path: "?page_size=1&page_token=" + token},
		{key: b.key, path: "?page_size=1&page_token=" + token},
		{key: b.people["bo"], path: "?page_size=1&waiting_for=me&page_token=" + token},
	} {
		c.method, c.path = "GET", "/v1/tickets"+c.path
		requireProblem(t, b.do(t, c), http.StatusBadRequest, "bad_page_token")
	}
}

func TestResultsAreForTheRequesterAndOperators(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	b.approve(t, id, "bo")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, `{"gone":true}`)
	for person, status := range map[string]int{"olaf": 200, "dora": 200, "ana": 200, "bo": 403, "chen": 403, "eva": 404, "sam": 404} {
		require.Equal(t, status, b.as(t, person, "GET", "/v1/tickets/"+id+"/result", "").status, "result for %s", person)
	}
}

func TestWhatIsRedactedIsNotShownToPeople(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(urgent, "{", `{"callback":{"url":"https://hooks.example.com/x?token=s3cret"},`, 1)).id(t)
	require.Equal(t, "token=s3cret", b.get(t, "/v1/tickets/"+id).field(t, "raw_query"), "the caller knows")
	for _, path := range []string{"/v1/tickets/" + id, "/v1/tickets", "/v1/tickets/" + id + "/events"} {
		for _, person := range []string{"bo", "dora", "olaf"} {
			r := b.as(t, person, "GET", path, "")
			require.Equal(t, http.StatusOK, r.status, "%s reads %s", person, path)
			require.NotContains(t, string(r.raw), "s3cret", "%s reads %s", person, path)
		}
	}
	r := b.as(t, "bo", "GET", "/v1/tickets/"+id, "")
	require.Equal(t, []any{"[redacted]", "https://hooks.example.com"}, []any{r.field(t, "raw_query"), r.field(t, "callback", "url")}, "what is shown")
	require.Equal(t, []any{"token=[redacted]", true}, []any{r.field(t, "call", "query"), r.field(t, "call", "complete")}, "the call")
}

func TestPeopleSeeTheCallTheyDecideOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "{", `{"body":{"reason":"gdpr"},"headers":{"Accept":"text/plain"},`, 1)).id(t)
	r := b.as(t, "bo", "GET", "/v1/tickets/"+id, "")
	require.Equal(t, `{"reason":"gdpr"}`, r.field(t, "call", "body"), "the body")
	require.Contains(t, string(r.raw), `{"name":"Accept","value":"text/plain"}`, "the headers")
	require.NotContains(t, string(b.get(t, "/v1/tickets/"+id).raw), `"call":`, "the caller knows what it sent")
}

func TestNobodyApprovesOverTheAPIWhatCannotBeShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	_, err := superuser(t, b.pool.Config().ConnString()).Exec(t.Context(),
		`SET session_replication_role = replica; UPDATE calls SET plan = jsonb_set(plan, '{redact}', '["what.is.this"]')`)
	require.NoError(t, err, "hide what nobody can tell from the rest")
	r := b.as(t, "bo", "GET", "/v1/tickets/"+id, "")
	require.Equal(t, false, r.field(t, "call", "complete"), "complete")
	requireProblem(t, b.post(t, "bo", id, "decisions", b.verdict(t, id, "approve", "")), http.StatusConflict, "conflict")
	require.Equal(t, 1, b.stored(t, id).Refusals, "refusals on record")
	require.Equal(t, http.StatusOK, b.post(t, "bo", id, "decisions", b.verdict(t, id, "deny", "what is it?")).status, "a no needs no sight")
}

func TestPeopleWaitForTicketsToo(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.MaxWaitersPerCaller = 1 })
	id := b.submit(t, deletion).id(t)
	waiting := b.inBackground(t, call{method: "GET", path: "/v1/tickets/" + id + "?wait=20s", key: b.people["bo"]})
	eventually(t, "a waiter", func() bool { return api.Waiting(b.server) == 1 })
	requireProblem(t, b.as(t, "bo", "GET", "/v1/tickets/"+id+"?wait=20s", ""), http.StatusTooManyRequests, "quota_exceeded")
	other := b.inBackground(t, call{method: "GET", path: "/v1/tickets/" + id + "?wait=20s", key: b.people["chen"]})
	eventually(t, "another's waiter", func() bool { return api.Waiting(b.server) == 2 })
	b.decide(t, id, "bo", approvals.Deny)
	require.Equal(t, "denied", receive(t, waiting).field(t, "state"), "what bo sees")
	require.Equal(t, "denied", receive(t, other).field(t, "state"), "what chen sees")
}

func TestStalledAndTightenedTicketsSayWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	require.Nil(t, b.get(t, "/v1/tickets/"+id).field(t, "stalled"), "all is well")
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		gone := b.config.Directory()
		gone.Groups = map[string][]string{"security": {}}
		return tk.Reassess(gone, now)
	})
	for _, r := range []reply{b.get(t, "/v1/tickets/"+id), b.as(t, "bo", "GET", "/v1/tickets/"+id, "")} {
		require.Contains(t, r.field(t, "stalled", "reason"), "of 1 needed approvals", "why")
		require.NotNil(t, r.field(t, "stalled", "since"), "since when")
	}
	require.Contains(t, string(b.get(t, "/v1/tickets").raw), `"stalled":{"reason"`, "in lists too")

	id = b.submit(t, staged).id(t)
	b.approve(t, id, "bo")
	b.approve(t, id, "eva")
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		today := tk.Plan
		today.PolicyDigest, today.Roster = "stricter", nil
		today.Stages = []approvals.Stage{{Name: "more", Need: []approvals.ApproverSet{{From: []string{"bo", "chen"}, Approvals: 2}}, Denials: 1}}
		tr, _ := tk.Claim("worker-7", b.config.Directory(), today, now)
		return tr, nil
	})
	r := b.as(t, "chen", "GET", "/v1/tickets/"+id, "")
	require.Equal(t, []any{"pending", "more", 3.0, 1.0},
		[]any{r.field(t, "state"), r.field(t, "stage", "name"), r.field(t, "stage", "index"), r.field(t, "stage", "round")}, "asked again: %s", r.raw)
	require.Contains(t, string(b.get(t, "/v1/tickets/"+id+"/events").raw), `"round":1`, "in the events")
	r = b.post(t, "bo", id, "decisions", b.verdict(t, id, "approve", ""))
	require.Equal(t, http.StatusOK, r.status, "a new round is a new vote: %s", r.raw)
}

func TestQuestionsAndStallsReachTheCallback(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	id := b.submit(t, strings.Replace(urgent, "{",
		`{"callback":{"url":"https://hooks.example.com/x","events":["ticket.question_asked","ticket.answered","ticket.glass_broken"]},`, 1)).id(t)
	b.post(t, "bo", id, "questions", `{"question":"which contract?"}`)
	b.post(t, "olaf", id, "answers", `{"answer":"4711"}`)
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		gone := b.config.Directory()
		gone.Groups = map[string][]string{"security": {}}
		return tk.Reassess(gone, now)
	})
	b.post(t, "eva", id, "decisions", b.verdict(t, id, "break_glass", "the site is down"))
	payloads := b.payloads(t)
	var types []any
	for _, raw := range payloads {
		requireSchema(t, spec, "CallbackEvent", raw)
		types = append(types, reply{raw: raw}.field(t, "type"))
	}
	require.Equal(t, []any{"ticket.question_asked", "ticket.answered", "ticket.stalled", "ticket.glass_broken"}, types, "callbacks")
	require.Equal(t, "which contract?", reply{raw: payloads[0]}.field(t, "data", "question", "text"), "the question")
	require.Equal(t, "4711", reply{raw: payloads[1]}.field(t, "data", "question", "answer"), "the answer")
}

// payloads are those of all callbacks there are, as they would be sent.
func (b *bundle) payloads(t *testing.T) (out [][]byte) {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT message_id FROM deliveries ORDER BY created_at, seq`)
	require.NoError(t, err, "list the callbacks")
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, "list the callbacks")
	for _, id := range ids {
		d, err := b.store.DeliveryByID(t.Context(), id)
		require.NoError(t, err, "read callback %s", id)
		out = append(out, d.Payload)
	}
	return out
}
