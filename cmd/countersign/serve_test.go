package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// served is a service under test, at its chosen port.
type served struct {
	*running
	base string
}

func serve(t *testing.T, databaseURL, config string, flags ...string) served {
	t.Helper()
	r := launch(t, servingEnv(databaseURL), append([]string{"serve", "--config", config, "--listen", "127.0.0.1:0"}, flags...)...)
	line := r.logged(t, "serving")
	address, ok := line["address"].(string)
	require.True(t, ok, "the line names the address: %v", line)
	s := served{running: r, base: "http://" + address}
	require.Eventually(t, func() bool { return s.get(t, "/readyz").status == http.StatusOK }, startLimit, 10*time.Millisecond, "it gets ready")
	return s
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s served) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil)
}

func (s served) do(t *testing.T, method, path string, body []byte) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", rand.Text())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{} // not up yet, or not any more
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "read the answer to %s %s", method, path)
	return answer{resp.StatusCode, resp.Header, b}
}

// submit hands in a call and returns its ticket's id.
func (s served) submit(t *testing.T, call map[string]any) (id string) {
	t.Helper()
	id, self := s.submitted(t, call)
	require.Equal(t, publicURL+"/v1/tickets/"+id, self, "links start with the public URL")
	return id
}

// submitted hands in a call and returns its ticket's id and the link to it.
func (s served) submitted(t *testing.T, call map[string]any) (id, self string) {
	t.Helper()
	body, err := json.Marshal(call)
	require.NoError(t, err)
	got := s.do(t, http.MethodPost, "/v1/tickets", body)
	require.Equal(t, http.StatusAccepted, got.status, "submit %s: %s", body, got.body)
	var ticket struct {
		ID    string            `json:"id"`
		Links map[string]string `json:"links"`
	}
	require.NoError(t, json.Unmarshal(got.body, &ticket))
	return ticket.ID, ticket.Links["self"]
}

// state waits for a ticket to be in a state.
func (s served) state(t *testing.T, id, want string) {
	t.Helper()
	var got answer
	require.Eventually(t, func() bool {
		got = s.get(t, "/v1/tickets/"+id)
		return bytes.Contains(got.body, []byte(`"state":"`+want+`"`))
	}, commandLimit, 10*time.Millisecond, "ticket %s becomes %s", id, want)
}

// held is an upstream that keeps its callers waiting until it is told to answer.
func held(t *testing.T) (url string, arrived <-chan *http.Request, finish func()) {
	t.Helper()
	came, release := make(chan *http.Request, 10), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- r
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"done":true}`)
	}))
	t.Cleanup(up.Close)
	var answered bool
	finish = func() {
		if !answered {
			answered = true
			close(release)
		}
	}
	t.Cleanup(finish)
	return up.URL, came, finish
}

func arrival[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	late := time.NewTimer(commandLimit)
	defer late.Stop()
	select {
	case v := <-c:
		return v
	case <-late.C:
		require.FailNow(t, "it does not come", what)
		panic("unreachable")
	}
}

func TestServeDrainsACallInFlightBeforeItEnds(t *testing.T) {
	t.Parallel()
	database := dbtest.Database(t)
	up, came, finish := held(t)
	s := serve(t, database, settings{upstream: up}.file(t))
	id := s.submit(t, map[string]any{"upstream": "billing", "method": "GET", "path": "/slow"})
	call := arrival(t, came, "the upstream call")
	require.Equal(t, id, call.Header.Get("Idempotency-Key"))
	require.Equal(t, "Bearer gate-only", call.Header.Get("Authorization"))

	s.stop()
	s.logged(t, "stopping")
	select {
	case <-s.done:
		require.FailNow(t, "it ended with a call in flight", "%s", s.stderr)
	case call := <-came:
		require.FailNow(t, "it made the call twice", "%v", call)
	case <-time.NewTimer(300 * time.Millisecond).C: // long enough for a drain that does not wait
	}
	finish()
	require.Equal(t, 0, s.end(t, 10*time.Second), "it ends within its drain time; stderr:\n%s", s.stderr)
	requireState(t, database, id, approvals.Succeeded)
}

func TestServeAnswersLongPollsWhenItDrains(t *testing.T) {
	t.Parallel()
	up, came, finish := held(t)
	s := serve(t, dbtest.Database(t), settings{upstream: up}.file(t))
	id := s.submit(t, map[string]any{"upstream": "billing", "method": "GET", "path": "/slow"})
	arrival(t, came, "the upstream call")
	polled := make(chan answer, 1)
	go func() { polled <- s.get(t, "/v1/tickets/"+id+"?wait=60s") }()
	require.Eventually(t, func() bool { return bytes.Contains(s.get(t, "/v1/tickets/"+id).body, []byte("executing")) },
		commandLimit, 10*time.Millisecond, "the poll has had time to begin")

	s.stop()
	got := arrival(t, polled, "the answer to the poll")
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, string(got.body), `"done":false`, "as it is, and not an error")
	finish()
	require.Equal(t, 0, s.end(t, 10*time.Second), s.stderr)
}

func TestServeCutsOffACallThatOutlastsTheDrainAndSaysSo(t *testing.T) {
	t.Parallel()
	database := dbtest.Database(t)
	up, came, _ := held(t)
	s := serve(t, database, settings{upstream: up, drain: "1s"}.file(t))
	id := s.submit(t, map[string]any{"upstream": "billing", "method": "GET", "path": "/for-ever"})
	arrival(t, came, "the upstream call")

	s.stop()
	require.Equal(t, exitFailed, s.end(t, 15*time.Second), "work was cut off; stderr:\n%s", s.stderr)
	require.Contains(t, s.stderr.String(), "jobs were cut off")
	requireState(t, database, id, approvals.OutcomeUnknown)
}

// requireState asserts what the database holds, whether or not a service runs on it.
func requireState(t *testing.T, database, id string, want approvals.State) {
	t.Helper()
	store := dbtest.Store(t, dbtest.PoolOf(t, database), &dbtest.Outbox{})
	got, err := store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.Equal(t, want, got.State)
}

func TestLinksLeadToTheServiceWhenNoPublicURLIsGiven(t *testing.T) {
	t.Parallel()
	s := serve(t, dbtest.Database(t), settings{local: true}.file(t))
	id, self := s.submitted(t, map[string]any{"upstream": "billing", "method": "PUT", "path": "/x"})
	require.Equal(t, s.base+"/v1/tickets/"+id, self, "the address that was chosen with --listen")
}
