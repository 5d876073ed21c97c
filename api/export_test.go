package api

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// Routes lists what the server answers, as "METHOD /path/{parameter}".
func Routes(s *Server) []string {
	var out []string
	for _, r := range s.echo.Routes() {
		segments := strings.Split(r.Path, "/")
		for i, segment := range segments {
			if name, ok := strings.CutPrefix(segment, ":"); ok {
				segments[i] = "{" + name + "}"
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
