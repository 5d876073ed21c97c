package api

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// waiting is how long a client asked to be kept waiting.
type waiting struct {
	length time.Duration
	// preferred says that it asked by the Prefer header, and is to be told what it got.
	preferred bool
}

// applied is the value of Preference-Applied, "" when no preference was.
func (w waiting) applied() string {
	if !w.preferred {
		return ""
	}
	return "wait=" + strconv.Itoa(int(w.length/time.Second))
}

var waitForm = regexp.MustCompile(`^[0-9]{1,9}s?$`)

// waitOf reads ?wait= and Prefer: wait= (RFC 7240 section 4.3), of which the query wins. A
// malformed query is refused; a malformed preference is ignored, as preferences are.
func (s *Server) waitOf(query, prefer string) (waiting, error) {
	if query != "" {
		length, ok := s.parseWait(query)
		if !ok {
			return waiting{}, badParameter("wait", "wait must be whole seconds, such as 30 or 30s")
		}
		return waiting{length: length}, nil
	}
	length, ok := s.parseWait(preference(prefer, "wait"))
	return waiting{length: length, preferred: ok}, nil
}

func (s *Server) parseWait(text string) (time.Duration, bool) {
	if !waitForm.MatchString(text) {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "s"))
	if err != nil {
		return 0, false
	}
	return min(time.Duration(n)*time.Second, s.maxWait), true
}

// preference returns the value of the first preference of a name, "" when there is none.
func preference(header, name string) string {
	for part := range strings.SplitSeq(header, ",") {
		part, _, _ = strings.Cut(part, ";")
		key, value, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// enough says whether a ticket is what a client waits for.
type enough func(version int64, state approvals.State) bool

// whenDone is what a client without If-None-Match waits for.
func whenDone(_ int64, state approvals.State) bool { return state.Final() }

// whenOther is what a client waits for that knows some versions.
func whenOther(known etags) enough {
	return func(version int64, _ approvals.State) bool { return !known.weak(version) }
}

// await returns the version and state of a ticket as soon as they are enough, or as they
// are when the wait, or the server, ends. who is counted as waiting.
func (s *Server) await(ctx context.Context, who string, ref db.Ref, wait waiting, ok enough) (int64, approvals.State, error) {
	if wait.length <= 0 {
		return s.store.Version(ctx, ref)
	}
	// Before the ticket is read: a change in between is either seen there or wakes us, and
	// nothing else is ever asked for this client.
	sub := s.store.Subscribe(db.Topic{Ticket: ref.ID})
	defer sub.Close()
	version, state, err := s.store.Version(ctx, ref)
	if err != nil || ok(version, state) {
		return version, state, err
	}
	short, cancel := context.WithTimeout(ctx, wait.length)
	defer cancel()
	leave, err := s.waiters.enter(who, s.mayWait(exchangeOf(ctx)), cancel)
	if err != nil {
		return 0, "", err
	}
	defer leave()
	for !ok(version, state) {
		c, err := sub.Next(short, version)
		switch {
		case err == nil:
			version, state = c.Version, c.State
		case short.Err() != nil:
			return version, state, nil
		default:
			return 0, "", err
		}
	}
	return version, state, nil
}

// peopleWait bounds what one person waits for at a time.
const peopleWait = 1000

// mayWait is how many requests of whoever asks may wait at a time.
func (s *Server) mayWait(x *exchange) int {
	n := peopleWait
	if x.caller.Limits.Waiting > 0 {
		n = x.caller.Limits.Waiting
	}
	if s.waiters.limit > 0 {
		n = min(n, s.waiters.limit)
	}
	return n
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// waiters counts the long polls and streams under way and can end them all.
type waiters struct {
	mu       sync.Mutex
	limit    int // of each caller or person; 0: none but their own
	count    map[string]int
	cancels  map[*context.CancelFunc]struct{}
	draining bool
}

func newWaiters(limit int) *waiters {
	return &waiters{limit: limit, count: make(map[string]int), cancels: make(map[*context.CancelFunc]struct{})}
}

// enter admits one more long poll or stream of a caller or person, who may have limit of them;
// cancel ends it. leave must be called once. While draining the wait is over at once.
func (w *waiters) enter(caller string, limit int, cancel context.CancelFunc) (leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.draining {
		cancel()
		return func() {}, nil
	}
	if w.count[caller] >= limit {
		return nil, tooManyWaiters(limit)
	}
	w.count[caller]++
	w.cancels[&cancel] = struct{}{}
	return func() { w.leave(caller, &cancel) }, nil
}

func (w *waiters) leave(caller string, cancel *context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cancels, cancel)
	if w.count[caller]--; w.count[caller] == 0 {
		delete(w.count, caller)
	}
}

func (w *waiters) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	for cancel := range w.cancels {
		(*cancel)()
	}
}

func (w *waiters) drained() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining
}

func tooManyWaiters(limit int) error {
	n := strconv.Itoa(limit)
	f := fail(codeQuotaExceeded, "there are already %d requests of yours waiting; poll without waiting, or wait on fewer", limit)
	f.violated = []string{"waiting"}
	return f.retryAfter(5*time.Second).
		with("RateLimit-Policy", `"waiting";q=`+n+`;qu="concurrent-requests"`).
		with("RateLimit", `"waiting";r=0`)
}
