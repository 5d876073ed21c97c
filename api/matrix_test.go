package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/identity"
	"countersign/policy"
)

// who is somebody that comes to the API.
type who struct {
	key string
	// caller or person is who they are; neither: nobody we know.
	caller, person string
	// scopes are those of the key, nil for all.
	scopes []string
}

// everybody lists all kinds of people, keys and tokens there are.
func (b *bundle) everybody() map[string]who {
	out := map[string]who{
		"nobody":            {key: "-"},
		"stranger":          {key: "csk_wrong"},
		"stranger's token":  {key: "somebody.elses.token"},
		"expired key":       {key: b.people["expiredkey"]},
		"key elsewhere":     {key: b.people["elsewherekey"]},
		"caller":            {key: b.key, caller: "payroll"},
		"caller by token":   {key: "caller.by.token", caller: "payroll"},
		"other caller":      {key: b.other, caller: "other"},
		"owner":             {key: b.people["olaf"], person: "olaf"},
		"approver":          {key: b.people["bo"], person: "bo"},
		"approver by token": {key: "person.by.token", person: "chen"},
		"unrelated":         {key: b.people["sam"], person: "sam"},
		"auditor":           {key: b.people["vera"], person: "vera"},
		"operator":          {key: b.people["dora"], person: "dora"},
	}
	for _, scope := range policy.Scopes() {
		name := map[string]string{"submit": "submitkey", "read": "readkey", "cancel": "cancelkey", "answer": "answerkey", "callbacks": "callbackskey"}[scope]
		out["key to "+scope] = who{key: b.people[name], caller: "payroll", scopes: []string{scope}}
	}
	return out
}

// relations says what people are to a caller's tickets and endpoints. Those whom the plan
// of a ticket asks are nothing to an endpoint.
var relations = map[string]map[string][]string{
	"olaf": {"payroll": {"requester"}},
	"bo":   {"payroll": {"approver"}, "other": {"approver"}},
	"chen": {"payroll": {"approver"}, "other": {"approver"}},
	"sam":  {},
	"vera": {"payroll": {"auditor"}, "other": {"auditor"}},
	"dora": {"payroll": {"operator"}, "other": {"operator"}},
}

// tokens is an identity provider of a few words.
func tokens(_ context.Context, token string) (identity.Identity, error) {
	switch token {
	case "caller.by.token":
		return identity.Identity{
			Issuer: "https://login.example.com", Subject: "repo:acme/payroll", Claims: map[string]any{"ref": "refs/heads/main"},
		}, nil
	case "person.by.token":
		return identity.Identity{Issuer: "https://login.example.com", Subject: "chen-1"}, nil
	}
	return identity.Identity{}, identity.ErrInvalid
}

// entitled is what openapi.yaml says as x-access.
type entitled struct {
	// Callers is the scope a key needs, People are the roles.
	Callers string
	People  []string
}

func entitledTo(t *testing.T, op *openapi3.Operation) entitled {
	t.Helper()
	require.Contains(t, op.Extensions, "x-access", "openapi.yaml does not say who may do %s", op.OperationID)
	raw, err := json.Marshal(op.Extensions["x-access"])
	require.NoError(t, err, "x-access of %s", op.OperationID)
	var out entitled
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&out), "x-access of %s", op.OperationID)
	return out
}

// kind is what an operation is about.
type kind int

const (
	aTicket kind = iota
	aCaller      // whom the body names
	anEndpoint
	nothing // or whatever concerns the one who asks
)

// cell is one operation as somebody tries it, on an object of its own.
type cell struct {
	about kind
	// body of the request. DIGEST stands for that of the ticket, CALLER for its caller.
	body string
	// path overrides that of openapi.yaml; ID stands for the object.
	path    string
	prepare func(t *testing.T, b *bundle, id string)
	// make makes an object of a caller and returns its id. Nil: a ticket.
	make func(t *testing.T, b *bundle, caller string) string
	// want is the status for whom it is for.
	want int
	// absent is the status for whom it is for when there is no such object. 0: 404.
	absent int
}

func (c cell) of(t *testing.T, b *bundle, id, caller string) string {
	t.Helper()
	host := map[string]string{"payroll": "hooks"}[caller]
	body := strings.ReplaceAll(c.body, "CALLERHOST", cmp.Or(host, caller))
	body = strings.ReplaceAll(body, "CALLER", caller)
	if strings.Contains(body, "DIGEST") {
		digest := strings.Repeat("0", 64)
		if id != noTicketID {
			digest = b.stored(t, id).Digest
		}
		body = strings.ReplaceAll(body, "DIGEST", digest)
	}
	return body
}

const noTicketID = "tkt_00000000000000000000000000"

// matrix says how each operation that takes a key is tried.
var matrix = map[string]cell{
	"submitTicket":     {about: nothing, body: deletion, want: 202},
	"listTickets":      {about: nothing, want: 200},
	"listEvents":       {about: nothing, want: 200},
	"getTicket":        {want: 200},
	"listTicketEvents": {want: 200},
	"getTicketResult":  {prepare: ended, want: 200},
	"cancelTicket":     {want: 200},
	"decideTicket":     {body: `{"verdict":"approve","digest":"DIGEST"}`, want: 200},
	"askTicket":        {body: `{"question":"why?"}`, want: 200},
	"answerTicket":     {body: `{"answer":"because"}`, prepare: asked, want: 200},
	"resolveTicket":    {body: `{"outcome":"succeeded","reason":"seen"}`, prepare: doubt, want: 200},
	"explainCall": {
		about: aCaller, body: `{"caller":"CALLER","upstream":"billing","method":"DELETE","path":"/x"}`, want: 200, absent: 422,
	},
	"listCallbackEndpoints":          {about: nothing, want: 200},
	"getCallbackEndpoint":            {about: anEndpoint, make: freshEndpoint, want: 200},
	"verifyCallbackEndpoint":         {about: anEndpoint, make: knownEndpoint, want: 200},
	"enableCallbackEndpoint":         {about: anEndpoint, make: freshEndpoint, want: 200},
	"disableCallbackEndpoint":        {about: anEndpoint, make: freshEndpoint, body: `{"reason":"it is moved"}`, want: 200},
	"testCallbackEndpoint":           {about: anEndpoint, make: knownEndpoint, body: `{"url":"https://CALLERHOST.example.com/hook"}`, want: 200},
	"recoverCallbackEndpoint":        {about: anEndpoint, make: freshEndpoint, body: `{"since":"2026-01-01T00:00:00Z"}`, want: 202},
	"getCallbackEndpointStats":       {about: anEndpoint, make: freshEndpoint, want: 200},
	"listCallbackEndpointDeliveries": {about: anEndpoint, make: freshEndpoint, want: 200},
	"listDeliveries":                 {about: nothing, want: 200},
	"getDelivery":                    {about: anEndpoint, make: newDelivery, want: 200},
	"redeliverDelivery":              {about: anEndpoint, make: newDelivery, want: 202},
	"redeliverDeliveries":            {about: nothing, body: `{"ids":["msg_00000000000000000000000000"]}`, want: 202},

	"proxyGet":     {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyPost":    {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyHead":    {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyPut":     {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyPatch":   {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyDelete":  {about: nothing, path: "/proxy/billing/by-hand", want: 202},
	"proxyOptions": {about: nothing, path: "/proxy/billing/by-hand", want: 202},
}

func doubt(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.doubt(t, id)
}

func asked(t *testing.T, b *bundle, id string) {
	t.Helper()
	require.Equal(t, 200, b.post(t, "chen", id, "questions", `{"question":"why?"}`).status, "ask")
}

func ended(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.approve(t, id, "bo")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, `{}`)
}

// expected is the status that somebody is to get for an object of a caller, of which there
// is none with the owner "nobody".
func (c cell) expected(w who, to entitled, owner string) int {
	closed, absent := http.StatusNotFound, c.absent
	if c.about == aCaller {
		closed = http.StatusForbidden // callers are no secret of those who know their name
	}
	if absent == 0 {
		absent = closed
	}
	switch {
	case w.caller == "" && w.person == "":
		return http.StatusUnauthorized
	case w.caller != "" && (to.Callers == "" || w.scopes != nil && !slices.Contains(w.scopes, to.Callers)):
		return http.StatusForbidden
	case w.person != "" && len(to.People) == 0:
		return http.StatusForbidden
	case c.about == nothing && (w.caller != "" || slices.Contains(to.People, "anybody")):
		return c.want
	case c.about == nothing: // some roles are the same to everything
		return c.expectedOfPerson(w.person, to, "other", http.StatusForbidden, absent)
	case w.caller != "" && w.caller == owner:
		return c.want
	case w.caller != "":
		return closed
	}
	return c.expectedOfPerson(w.person, to, owner, closed, absent)
}

func (c cell) expectedOfPerson(name string, to entitled, owner string, closed, absent int) int {
	roles := relations[name][owner]
	if owner == "nobody" {
		roles = slices.DeleteFunc(slices.Clone(relations[name]["payroll"]), func(r string) bool { return r != "operator" })
		if c.about == aCaller && slices.Contains(to.People, "operator") && len(roles) > 0 {
			return absent
		}
		return closed
	}
	if c.about == anEndpoint {
		roles = slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == "approver" })
	}
	switch {
	case slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(to.People, r) }):
		return c.want
	case len(roles) > 0:
		return http.StatusForbidden
	}
	return closed
}

// object makes what the operation is tried on, and returns its id.
func (c cell) object(t *testing.T, b *bundle, owner string) string {
	t.Helper()
	switch {
	case owner == "nobody" && c.about == anEndpoint:
		return "end_" + strings.Repeat("0", 26)
	case owner == "nobody", c.about == nothing, c.about == aCaller:
		return noTicketID
	case c.make != nil:
		return c.make(t, b, owner)
	}
	key := map[string]string{"payroll": b.key, "other": b.other}[owner]
	r := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, key: key, header: headers("Idempotency-Key", freshKey())})
	require.Equal(t, http.StatusAccepted, r.status, "submit: %s", r.raw)
	id := r.id(t)
	if c.prepare != nil {
		c.prepare(t, b, id)
	}
	return id
}

func TestEveryOperationAnswersEverybodyAboutEverythingAsItShould(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t, func(c *api.Config) { c.Identify = tokens }, quiet)
	b.config = parseConfig(t, b.text(t, `
  - name: by-hand
    match: {upstream: billing, path: /by-hand}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: "#c"}}]
`, ""))
	operations, cells := 0, &atomic.Int64{}
	t.Cleanup(func() { t.Logf("%d operations, %d cells", operations, cells.Load()) })
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !needsKey(op) {
				continue
			}
			operations++
			c, known := matrix[op.OperationID]
			require.True(t, known, "operation %s is not in the matrix", op.OperationID)
			to := entitledTo(t, op)
			if c.path == "" {
				c.path = strings.ReplaceAll(path, "{id}", "ID")
			}
			for name, w := range b.everybody() {
				for _, owner := range []string{"payroll", "other", "nobody"} {
					t.Run(op.OperationID+" of "+owner+" by "+name, func(t *testing.T) {
						t.Parallel()
						b.try(t, method, c, w, owner, c.expected(w, to, owner))
						cells.Add(1)
					})
				}
			}
		}
	}
	require.Len(t, matrix, operations, "operations in the matrix and in openapi.yaml")
}

// try makes one attempt and asserts its status, and that a refused one changes nothing.
func (b *bundle) try(t *testing.T, method string, c cell, w who, owner string, want int) {
	t.Helper()
	id, key := c.object(t, b, owner), freshKey()
	request := call{
		method: method, path: strings.ReplaceAll(c.path, "ID", id), body: c.of(t, b, id, owner), key: w.key,
		header: headers("Idempotency-Key", key),
	}
	if w.caller == "" && w.person == "" {
		b.clock.move(6 * time.Second) // failed authentications are slowed down
	}
	before := b.trace(t, id, key)
	r := b.do(t, request)
	require.Equal(t, want, r.status, "%s", r.raw)
	if want < 400 {
		return
	}
	if method != http.MethodHead {
		requireProblem(t, r, want, fmt.Sprint(r.field(t, "code")))
	}
	after := b.trace(t, id, key)
	if want == http.StatusForbidden { // may be on record as a refusal
		before.version, after.version = 0, 0
	}
	require.Equal(t, before, after, "nothing happened")
}

// trace is what a refused attempt must leave as it was.
type trace struct {
	// state and version are a ticket's.
	state   string
	version int64
	// row is that of a delivery, or what somebody can do about an endpoint. Cells share some.
	row string
	// keys is how many Idempotency-Keys were used up.
	keys int64
}

func (b *bundle) trace(t *testing.T, id, key string) (out trace) {
	t.Helper()
	err := b.pool.QueryRow(t.Context(), `SELECT coalesce((SELECT state FROM tickets WHERE id = $1), ''),
		coalesce((SELECT version FROM tickets WHERE id = $1), 0),
		coalesce((SELECT row(e.verification, e.verify_tries, e.disabled_at, e.disabled_by)::text FROM callback_endpoints e
			WHERE e.id = $1), (SELECT d::text FROM deliveries d WHERE d.message_id = $1), ''),
		(SELECT count(*) FROM idempotency_keys WHERE key = $2)`, id, key).Scan(&out.state, &out.version, &out.row, &out.keys)
	require.NoError(t, err, "read %s", id)
	return out
}

func TestTheTableOfAccessIsThatOfOpenAPI(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	documented := make(map[string]entitled)
	for _, item := range spec.doc.Paths.Map() {
		for _, op := range item.Operations() {
			if !needsKey(op) {
				require.NotContains(t, op.Extensions, "x-access", "%s is for everybody", op.OperationID)
				continue
			}
			to := entitledTo(t, op)
			documented[op.OperationID] = to
			require.Equal(t, security(to), requirements(op), "security of %s against its x-access", op.OperationID)
		}
	}
	table := make(map[string]entitled)
	for operation, row := range api.Access() {
		table[operation] = entitled{Callers: row.Callers, People: row.People}
	}
	require.Equal(t, documented, table, "accessTable against openapi.yaml")
}

// security is the security that goes with an x-access.
func security(to entitled) (out []string) {
	if to.Callers != "" {
		out = append(out, "apiKey")
	}
	if len(to.People) > 0 {
		out = append(out, "person")
	}
	return out
}

func requirements(op *openapi3.Operation) (out []string) {
	if op.Security == nil {
		return []string{"apiKey", "person"} // the document's default
	}
	for _, alternative := range *op.Security {
		for name := range alternative {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestAnOperationThatIsInNoRowCannotBeRegistered(t *testing.T) {
	t.Parallel()
	require.PanicsWithValue(t, "api: say in accessTable, and as x-access in openapi.yaml, who may do forgottenOperation",
		func() { api.Guard("forgottenOperation") })
}

func TestNoOperationTakesFieldsItDoesNotHave(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	rows, err := b.pool.Query(t.Context(), `SELECT DISTINCT column_name::text FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name NOT LIKE 'river%'`)
	require.NoError(t, err, "list the columns")
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, "list the columns")
	require.Greater(t, len(columns), 100, "columns")
	id := b.submit(t, deletion).id(t)
	before := b.stored(t, id)
	tried := 0
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			c := matrix[op.OperationID]
			if !needsKey(op) || c.body == "" {
				continue
			}
			key := b.key
			if entitledTo(t, op).Callers == "" {
				key = b.people["dora"]
			}
			at := c.path
			if at == "" {
				at = strings.ReplaceAll(path, "{id}", "ID")
			}
			known := op.RequestBody.Value.Content["application/json"].Schema.Value.Properties
			for _, column := range append(columns, "person", "actor", "approvals", "credential", "callback_url") {
				if known[column] != nil {
					continue
				}
				tried++
				r := b.do(t, call{
					method: method, path: strings.ReplaceAll(at, "ID", id), key: key, header: headers("Idempotency-Key", freshKey()),
					body: strings.Replace(c.of(t, b, id, "payroll"), "{", `{"`+column+`":"approved",`, 1),
				})
				requireProblem(t, r, http.StatusBadRequest, "invalid_body")
			}
			b.clock.move(time.Minute) // people have a limit of their own
		}
	}
	t.Logf("%d extra fields", tried)
	require.Equal(t, before, b.stored(t, id), "nothing happened")
	require.Equal(t, 1, b.tickets(t), "nothing was opened")
}
