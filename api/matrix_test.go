package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// roles are who may come to the API, with their keys.
func (b *bundle) roles() map[string]string {
	return map[string]string{
		"nobody": "csk_wrong", "caller": b.key, "other caller": b.other,
		"approver": b.people["bo"], "stranger": b.people["sam"], "owner": b.people["olaf"], "operator": b.people["dora"],
	}
}

// cell is one operation as somebody tries it, on a ticket of its own.
type cell struct {
	body    string
	prepare func(t *testing.T, b *bundle, id string)
	want    map[string]int // status by role; nobody is always 401
}

func (c cell) of(t *testing.T, b *bundle, id string) string {
	t.Helper()
	return strings.ReplaceAll(c.body, "DIGEST", b.stored(t, id).Digest)
}

// matrix says, for every operation that takes a key, what it answers to whom.
var matrix = map[string]cell{
	"submitTicket": {body: deletion, want: map[string]int{
		"caller": 202, "other caller": 202, "approver": 403, "stranger": 403, "owner": 403, "operator": 403,
	}},
	"listTickets": {want: map[string]int{
		"caller": 200, "other caller": 200, "approver": 200, "stranger": 200, "owner": 200, "operator": 200,
	}},
	"getTicket": {want: map[string]int{
		"caller": 200, "other caller": 404, "approver": 200, "stranger": 404, "owner": 200, "operator": 200,
	}},
	"listTicketEvents": {want: map[string]int{
		"caller": 200, "other caller": 404, "approver": 200, "stranger": 404, "owner": 200, "operator": 200,
	}},
	"getTicketResult": {
		prepare: func(t *testing.T, b *bundle, id string) {
			t.Helper()
			b.approve(t, id, "bo")
			b.begin(t, id)
			b.finish(t, id, http.StatusOK, `{}`)
		},
		want: map[string]int{"caller": 200, "other caller": 404, "approver": 403, "stranger": 404, "owner": 200, "operator": 200},
	},
	"cancelTicket": {want: map[string]int{
		"caller": 200, "other caller": 404, "approver": 403, "stranger": 403, "owner": 403, "operator": 403,
	}},
	"decideTicket": {body: `{"verdict":"approve","digest":"DIGEST"}`, want: map[string]int{
		"caller": 403, "other caller": 403, "approver": 200, "stranger": 404, "owner": 403, "operator": 403,
	}},
	"askTicket": {body: `{"question":"why?"}`, want: map[string]int{
		"caller": 403, "other caller": 403, "approver": 200, "stranger": 404, "owner": 403, "operator": 403,
	}},
	"answerTicket": {
		body: `{"answer":"because"}`,
		prepare: func(t *testing.T, b *bundle, id string) {
			t.Helper()
			require.Equal(t, 200, b.post(t, "chen", id, "questions", `{"question":"why?"}`).status, "ask")
		},
		want: map[string]int{"caller": 200, "other caller": 404, "approver": 403, "stranger": 404, "owner": 200, "operator": 403},
	},
	"resolveTicket": {
		body: `{"outcome":"succeeded","reason":"seen"}`, prepare: doubt,
		want: map[string]int{"caller": 403, "other caller": 403, "approver": 403, "stranger": 404, "owner": 403, "operator": 200},
	},
	"explainCall": {body: `{"caller":"payroll","upstream":"billing","method":"DELETE","path":"/x"}`, want: map[string]int{
		"caller": 200, "other caller": 403, "approver": 403, "stranger": 403, "owner": 200, "operator": 200,
	}},
}

func doubt(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.doubt(t, id)
}

func TestEveryOperationAnswersEveryRoleAsItShould(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	operations := 0
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !needsKey(op) {
				continue
			}
			operations++
			c, known := matrix[op.OperationID]
			require.True(t, known, "operation %s is not in the matrix", op.OperationID)
			for role, key := range b.roles() {
				t.Run(op.OperationID+" by "+role, func(t *testing.T) {
					t.Parallel()
					id := b.submit(t, deletion).id(t)
					if c.prepare != nil {
						c.prepare(t, b, id)
					}
					before := b.stored(t, id)
					if role == "nobody" {
						b.clock.move(6 * time.Second) // failed authentications are slowed down
					}
					r := b.do(t, call{
						method: method, path: strings.ReplaceAll(path, "{id}", id), body: c.of(t, b, id), key: key,
						header: headers("Idempotency-Key", freshKey()),
					})
					want, known := c.want[role]
					if role == "nobody" {
						want, known = http.StatusUnauthorized, true
					}
					require.True(t, known, "a cell for %s", role)
					require.Equal(t, want, r.status, "%s", r.raw)
					if want >= 400 && want != 403 {
						require.Equal(t, before.Version, b.stored(t, id).Version, "nothing happened")
					}
					if want >= 400 {
						require.Equal(t, before.State, b.stored(t, id).State, "nothing was decided")
					}
				})
			}
		}
	}
	require.Len(t, matrix, operations, "operations in the matrix and in openapi.yaml")
}

func TestNoOperationTakesFieldsItDoesNotHave(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	rows, err := b.pool.Query(t.Context(), `SELECT DISTINCT column_name::text FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name IN ('tickets', 'calls', 'decisions', 'audit_events')`)
	require.NoError(t, err, "list the columns")
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, "list the columns")
	require.NotEmpty(t, columns, "columns")
	id := b.submit(t, deletion).id(t)
	before := b.stored(t, id)
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			c := matrix[op.OperationID]
			if !needsKey(op) || c.body == "" {
				continue
			}
			key := b.people["dora"]
			if c.want["operator"] == http.StatusForbidden && c.want["caller"] < 300 {
				key = b.key
			}
			known := op.RequestBody.Value.Content["application/json"].Schema.Value.Properties
			for _, column := range append(columns, "person", "actor", "approvals", "credential", "callback_url") {
				if known[column] != nil {
					continue
				}
				r := b.do(t, call{
					method: method, path: strings.ReplaceAll(path, "{id}", id), key: key, header: headers("Idempotency-Key", freshKey()),
					body: strings.Replace(c.of(t, b, id), "{", `{"`+column+`":"approved",`, 1),
				})
				requireProblem(t, r, http.StatusBadRequest, "invalid_body")
			}
		}
	}
	require.Equal(t, before, b.stored(t, id), "nothing happened")
	require.Equal(t, 1, b.tickets(t), "nothing was opened")
}
