package api

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/policy"
)

// Routes lists what the server answers, as "METHOD /path/{parameter}".
func Routes(s *Server) []string {
	var out []string
	for _, r := range s.echo.Routes() {
		segments := strings.Split(strings.ReplaceAll(r.Path, `\:`, ":"), "/")
		for i, segment := range segments {
			if name, ok := strings.CutPrefix(segment, ":"); ok {
				segments[i] = "{" + name + "}"
			}
			if segment == "*" {
				segments[i] = "{path}"
			}
		}
		if r.Method != echo.RouteNotFound {
			out = append(out, r.Method+" "+strings.Join(segments, "/"))
		}
	}
	slices.Sort(out)
	return out
}

// QueryParameters are those that each operation takes.
func QueryParameters() map[string][]string { return queryParameters }

// ProblemCodes lists every code.
func ProblemCodes() []string { return slices.Collect(maps.Keys(problemKinds)) }

// TicketProblemCodes lists the codes that tickets are known to end with.
func TicketProblemCodes() []string {
	return append(slices.Collect(maps.Keys(errorTitles)), slices.Collect(maps.Keys(problemTexts))...)
}

// ProblemStatus is the status of a code.
func ProblemStatus(code string) string { return strconv.Itoa(problemKinds[code].status) }

// DecodeSubmit decodes a submit strictly and returns the fingerprint of its body.
func DecodeSubmit(raw []byte) (SubmitRequest, [32]byte, error) {
	var dst SubmitRequest
	doc, err := decodeStrict(raw, &dst)
	if err != nil {
		return dst, [32]byte{}, err
	}
	key, err := idempotencyKey("k", doc)
	return dst, key.Fingerprint, err
}

// ErrorCode is the code of the problem that an error becomes.
func ErrorCode(err error) string { return failureOf(err).code }

// ParseKey reads an Idempotency-Key header.
func ParseKey(values ...string) (string, error) { return parseKey(values) }

// Accepts reports whether an Accept header admits JSON.
func Accepts(header string) bool { return accepts(header, "application", "json") }

// Throttled counts how many of n failures from one address are let through at one moment.
func Throttled(ips []string, n int) map[string]int {
	t, out := newThrottle(), make(map[string]int)
	for range n {
		for _, ip := range ips {
			if t.allow(ip, epoch) {
				out[ip]++
			}
		}
	}
	return out
}

// Remembered is how many addresses are held after failures from n different ones.
func Remembered(n int) int {
	t := newThrottle()
	for i := range n {
		t.allow("10."+strconv.Itoa(i>>16&255)+"."+strconv.Itoa(i>>8&255)+"."+strconv.Itoa(i&255), epoch)
	}
	return len(t.young) + len(t.old)
}

var epoch = time.Unix(1_700_000_000, 0)

// Waiting is how many long polls are under way.
func Waiting(s *Server) int {
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	return len(s.waiters.cancels)
}

// Entitled is a row of the table of access.
type Entitled struct {
	Callers string
	People  []string
}

// Access is the table of access.
func Access() map[string]Entitled {
	out := make(map[string]Entitled, len(accessTable))
	for operation, a := range accessTable {
		row := Entitled{Callers: a.scope}
		for _, r := range a.people {
			row.People = append(row.People, string(r))
		}
		out[operation] = row
	}
	return out
}

// Guard asks for what stands in front of an operation.
func Guard(operation string) { (&Server{}).guarded(operation) }

// Granted is how many of n requests, one every so often, a limit grants.
func Granted(limit policy.Rate, every time.Duration, n int) (granted int) {
	l := newLimiter()
	for i := range n {
		if l.take(bucket{who: "a"}, limit, epoch.Add(time.Duration(i)*every)).ok {
			granted++
		}
	}
	return granted
}

// Buckets is how many buckets are kept after n have come, one a millisecond.
func Buckets(n int) int {
	l := newLimiter()
	for i := range n {
		l.take(bucket{who: strconv.Itoa(i)}, policy.Rate{N: 10, Per: time.Second}, epoch.Add(time.Duration(i)*time.Millisecond))
	}
	return len(l.full)
}

// AfterClockWentBack is how long somebody has to wait whose last request was later than now.
func AfterClockWentBack(limit policy.Rate, back time.Duration) time.Duration {
	l := newLimiter()
	l.take(bucket{who: "a"}, limit, epoch.Add(back))
	return l.take(bucket{who: "a"}, limit, epoch).more
}

// HeartbeatOf is how often streams of a server show that they are alive.
func HeartbeatOf(s *Server) time.Duration { return s.heartbeat }

// RefusedFields are the names of the fields that the front refuses, in lower case; a star ends
// those of which only the beginning counts.
func RefusedFields() []string {
	out := slices.Concat(slices.Collect(maps.Keys(refusedFields)), bodyFields)
	for prefix := range refusedPrefixes {
		out = append(out, prefix+"*")
	}
	return out
}
