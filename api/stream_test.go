package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
)

// A stream that has ended is held against openapi.yaml as text.
func init() { //nolint:gochecknoinits // the decoders are the library's own global table
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
}

// sse is one server-sent event as a browser would see it.
type sse struct {
	id, name string
	data     map[string]any
}

// follower reads a stream.
type follower struct {
	res      *http.Response
	events   chan sse
	comments atomic.Int64
	last     atomic.Value // the id that a browser would come back with
	done     chan struct{}
}

// follow opens a stream.
func (b *bundle) follow(t *testing.T, path, key string, pairs ...string) *follower {
	t.Helper()
	h := headers(pairs...)
	h.Set("Accept", "text/event-stream")
	ctx, _ := contextOf(t)
	req := b.request(t, call{method: "GET", path: path, key: key, header: h}).WithContext(ctx)
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "open a stream")
	t.Cleanup(func() { _ = res.Body.Close() })
	f := &follower{res: res, events: make(chan sse, 1000), done: make(chan struct{})}
	f.last.Store("")
	go f.read()
	return f
}

func (f *follower) read() {
	defer close(f.done)
	defer close(f.events)
	var e sse
	lines := bufio.NewScanner(f.res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			e.id = value
			f.last.Store(value)
		case "event":
			e.name = value
		case "data":
			_ = json.Unmarshal([]byte(value), &e.data) // what is asserted is missing then
		case "":
			if strings.HasPrefix(lines.Text(), ":") {
				f.comments.Add(1)
			} else if e.name != "" {
				f.events <- e
			}
			e = sse{}
		}
	}
}

func (f *follower) next(t *testing.T) sse {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case e, ok := <-f.events:
		require.True(t, ok, "the stream has ended")
		return e
	case <-timer.C:
		require.FailNow(t, "no event in time")
		return sse{}
	}
}

func (f *follower) ends(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
		require.FailNow(t, "the stream goes on")
	}
}

func TestAStreamTellsTheLifeOfATicketAndEndsWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	f := b.follow(t, "/v1/tickets/"+id+"/events", "")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept",
	} {
		require.Equal(t, want, f.res.Header.Get(name), name)
	}
	created := f.next(t)
	require.Equal(t, []any{"1", "ticket.created"}, []any{created.id, created.name}, "the first event")
	listed := b.get(t, "/v1/tickets/"+id+"/events").field(t, "items").([]any) //nolint:forcetypeassert // fails the test
	require.Equal(t, listed[0], any(created.data), "the event against the one in the list")
	b.approve(t, id, "bo")
	require.Equal(t, []string{"ticket.decided", "ticket.approved"}, []string{f.next(t).name, f.next(t).name}, "what follows")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, "{}")
	var last sse
	for last.name != "ticket.succeeded" {
		last = f.next(t)
	}
	f.ends(t)
	require.Equal(t, strconv.Itoa(int(b.stored(t, id).Version)), last.id, "the id of the last event is the version")

	again := b.follow(t, "/v1/tickets/"+id+"/events", "", "Last-Event-ID", last.id)
	require.Equal(t, http.StatusNoContent, again.res.StatusCode, "nothing more to come")
	half := b.follow(t, "/v1/tickets/"+id+"/events", "", "Last-Event-ID", "3")
	require.Equal(t, "4", half.next(t).id, "it goes on behind the last one seen")
	half.ends(t)
}

func TestAResolutionIsToldToThoseWhoComeBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	b.doubt(t, id)
	f := b.follow(t, "/v1/tickets/"+id+"/events", "")
	f.ends(t)
	seen, _ := f.last.Load().(string)
	require.Equal(t, http.StatusNoContent, b.follow(t, "/v1/tickets/"+id+"/events", "", "Last-Event-ID", seen).res.StatusCode, "for now")
	require.Equal(t, 200, b.post(t, "dora", id, "resolve", `{"outcome":"succeeded","reason":"seen"}`).status, "resolve")
	f = b.follow(t, "/v1/tickets/"+id+"/events", "", "Last-Event-ID", seen)
	require.Equal(t, "ticket.resolved", f.next(t).name)
	f.ends(t)
}

func TestAStreamStartsAnewFromAPlaceThatIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	f := b.follow(t, "/v1/tickets/"+id+"/events", "", "Last-Event-ID", "77")
	require.Equal(t, "reset", f.next(t).name)
	require.Equal(t, "1", f.next(t).id, "all there is")
	r := b.get(t, "/v1/tickets/"+id+"/events", "Accept", "text/event-stream", "Last-Event-ID", "x")
	requireProblem(t, r, http.StatusBadRequest, "invalid_header")
	r = b.get(t, "/v1/tickets/"+id+"/events?after=1", "Accept", "text/event-stream")
	requireProblem(t, r, http.StatusBadRequest, "invalid_parameter")

	f = b.follow(t, "/v1/events", "", "Last-Event-ID", "bm9uc2Vuc2U")
	require.Equal(t, "reset", f.next(t).name)
	b.approve(t, id, "bo")
	e := f.next(t)
	if e.name == "ticket.created" { // what is under way elsewhere in the cluster holds the place of now back
		e = f.next(t)
	}
	require.Equal(t, "ticket.decided", e.name, "from now on")
}

func TestAcceptDecidesBetweenStreamAndList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	b.decide(t, id, "bo", approvals.Deny) // so that a stream ends
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/json": "application/json",
		"text/event-stream": "text/event-stream", "text/event-stream, */*": "text/event-stream", "text/*": "text/event-stream",
		"application/json, text/event-stream": "text/event-stream", "application/json, text/event-stream;q=0.5": "application/json",
		"text/html": "", "text/event-stream;q=0": "", "application/xml, text/csv": "",
	} {
		h := headers()
		h["Accept"] = []string{accept}
		r := b.do(t, call{method: "GET", path: "/v1/tickets/" + id + "/events", header: h})
		if want == "" {
			requireProblem(t, r, http.StatusNotAcceptable, "not_acceptable")
			continue
		}
		require.Equal(t, want, r.header.Get("Content-Type"), "Accept: %s", accept)
	}
}

func TestAStreamShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.Heartbeat = 20 * time.Millisecond })
	id := b.submit(t, deletion).id(t)
	for _, path := range []string{"/v1/tickets/" + id + "/events", "/v1/events"} {
		f := b.follow(t, path, "")
		eventually(t, "heartbeats at "+path, func() bool { return f.comments.Load() > 3 })
	}
}

func TestAStreamEndsWhenItsKeyIsTakenAway(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[policy.Config]
	b := setup(t, func(c *api.Config) {
		now.Store(c.Policy())
		c.Heartbeat, c.Policy = 20*time.Millisecond, now.Load
	})
	id := b.submit(t, deletion).id(t)
	open := map[string]*follower{
		"the caller's": b.follow(t, "/v1/tickets/"+id+"/events", ""), "an approver's": b.follow(t, "/v1/tickets/"+id+"/events", b.people["bo"]),
		"the caller's of all": b.follow(t, "/v1/events", ""), "an operator's of all": b.follow(t, "/v1/events", b.people["dora"]),
	}
	eventually(t, "all to be open", func() bool { return api.Waiting(b.server) == len(open) })
	other, _ := testConfig(t) // everybody has another key in it
	now.Store(other)
	for whose, f := range open {
		f.ends(t)
		require.Equal(t, http.StatusOK, f.res.StatusCode, "%s", whose)
	}
	require.Equal(t, 0, api.Waiting(b.server), "nobody is left")
}

func TestDrainEndsEveryStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	one, all := b.follow(t, "/v1/tickets/"+id+"/events", ""), b.follow(t, "/v1/events", "")
	require.Equal(t, "ticket.created", one.next(t).name)
	b.server.Drain()
	one.ends(t)
	all.ends(t)
	late := b.follow(t, "/v1/events", "")
	require.Equal(t, http.StatusOK, late.res.StatusCode, "an EventSource would not come back after an error")
	late.ends(t)
}

func TestStreamsAndLongPollsShareOneCap(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.MaxWaitersPerCaller = 2 })
	id := b.submit(t, deletion).id(t)
	b.follow(t, "/v1/events", "")
	poll := b.inBackground(t, call{method: "GET", path: "/v1/tickets/" + id + "?wait=50s"})
	eventually(t, "both to wait", func() bool { return api.Waiting(b.server) == 2 })
	for _, path := range []string{"/v1/events", "/v1/tickets/" + id + "/events"} {
		r := b.get(t, path, "Accept", "text/event-stream")
		requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
		require.Equal(t, `"waiting";q=2;qu="concurrent-requests"`, r.header.Get("Ratelimit-Policy"), "RateLimit-Policy")
	}
	r := b.get(t, "/v1/tickets?wait=50s", "If-None-Match", b.get(t, "/v1/tickets").header.Get("ETag"))
	requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
	b.server.Drain()
	require.Equal(t, http.StatusOK, receive(t, poll).status, "the long poll")
}

func TestEventsOfAllTicketsAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs, all := b.follow(t, "/v1/events", ""), b.follow(t, "/v1/events", b.other), b.follow(t, "/v1/events", b.people["dora"])
	id := b.submit(t, deletion).id(t)
	foreign := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, key: b.other, header: headers("Idempotency-Key", freshKey())}).id(t)
	require.Equal(t, id, mine.next(t).data["ticket_id"], "the caller's stream")
	require.Equal(t, foreign, theirs.next(t).data["ticket_id"], "another caller's stream")
	require.ElementsMatch(t, []any{id, foreign}, []any{all.next(t).data["ticket_id"], all.next(t).data["ticket_id"]}, "an operator's stream")
	b.approve(t, id, "bo")
	require.Equal(t, []any{"ticket.decided", id}, []any{mine.next(t).name, all.next(t).data["ticket_id"]}, "what follows")
	require.Empty(t, theirs.events, "another caller hears nothing of it")
	for _, who := range []string{"bo", "olaf", "sam"} {
		for _, accept := range []string{"application/json", "text/event-stream"} {
			r := b.do(t, call{method: "GET", path: "/v1/events", key: b.people[who], header: headers("Accept", accept)})
			requireProblem(t, r, http.StatusForbidden, "not_operator")
		}
	}
}

func TestComingBackToAllEventsMissesNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.follow(t, "/v1/events", "")
	want, seen := map[string]bool{}, map[string]bool{}
	for range 5 {
		id := b.submit(t, deletion).id(t)
		want[id] = true
		e := f.next(t)
		seen[e.data["ticket_id"].(string)] = true //nolint:forcetypeassert // fails the test
	}
	place, _ := f.last.Load().(string)
	_ = f.res.Body.Close() // while it is away, more happens
	for range 5 {
		want[b.submit(t, deletion).id(t)] = true
	}
	f = b.follow(t, "/v1/events", "", "Last-Event-ID", place)
	for len(seen) < len(want) {
		e := f.next(t)
		require.Equal(t, "ticket.created", e.name, "no reset")
		seen[e.data["ticket_id"].(string)] = true //nolint:forcetypeassert // fails the test
	}
	require.Equal(t, want, seen, "the tickets heard of")
}

func TestTheListOfAllEventsGoesOnFromItsPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.submit(t, deletion).id(t)
	r := b.get(t, "/v1/events")
	require.Equal(t, []any{[]any{}, false}, []any{r.field(t, "items"), r.field(t, "has_more")}, "it begins now")
	place, _ := r.field(t, "next_after").(string)
	b.approve(t, first, "bo")
	second := b.submit(t, deletion).id(t)
	var got []string
	eventually(t, "all to be complete", func() bool {
		r := b.get(t, "/v1/events?page_size=1&after="+place)
		place, _ = r.field(t, "next_after").(string)
		for _, e := range r.field(t, "items").([]any) { //nolint:forcetypeassert // fails the test
			e, _ := e.(map[string]any)
			got = append(got, e["ticket_id"].(string)+" "+e["type"].(string)) //nolint:forcetypeassert // fails the test
		}
		return slices.Contains(got, second+" ticket.created")
	})
	require.Subset(t, got, []string{first + " ticket.decided", first + " ticket.approved", second + " ticket.created"}, "what happened")
	for _, bad := range []string{"x", strings.Repeat("A", 60), place + "A"} {
		requireProblem(t, b.get(t, "/v1/events?after="+bad), http.StatusBadRequest, "bad_page_token")
	}
}

func TestAClientThatDoesNotReadIsLetGo(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.StreamWriteTimeout = 300 * time.Millisecond })
	id := b.submit(t, deletion).id(t)
	small := httptest.NewUnstartedServer(b.server.Handler())
	small.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(4096)
		}
		return ctx
	}
	small.Start()
	t.Cleanup(small.Close)
	conn, err := net.Dial("tcp", small.Listener.Addr().String()) //nolint:noctx // on loopback
	require.NoError(t, err, "connect")
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096), "read little") //nolint:forcetypeassert // it is one
	_, err = conn.Write([]byte("GET /v1/tickets/" + id + "/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer " + b.key + "\r\n\r\n"))
	require.NoError(t, err, "ask for a stream")
	eventually(t, "the stream to be open", func() bool { return api.Waiting(b.server) == 1 })
	eventually(t, "the stream to be let go", func() bool {
		for range 20 {
			_, err := b.store.Advance(t.Context(), db.Ref{ID: id}, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return tk.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "slack"}, approvals.Decision{
					Person: "ana", Verdict: approvals.Approve, Stage: tk.Stage, Digest: tk.Digest,
				}, b.config.Directory(), now)
			})
			if approvals.ErrorCode(err) != approvals.CodeSelfApproval {
				return false
			}
		}
		return api.Waiting(b.server) == 0
	})
}
