package emulator

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// FaultKind is a way for a call to go wrong.
type FaultKind string

const (
	// RateLimited answers 429, with Retry-After when Fault.RetryAfter is above zero; without
	// it the body says message_limit_exceeded, as for Slack's workspace-wide limit.
	RateLimited FaultKind = "rate_limited"
	// ServerError answers 500.
	ServerError FaultKind = "server_error"
	// Hang answers nothing until [Server.ReleaseHangs], or until the caller gives up.
	Hang FaultKind = "hang"
	// Slow answers as usual after Fault.DelayMS.
	Slow FaultKind = "slow"
	// ErrorReply answers 200 with ok:false and Fault.Error.
	ErrorReply FaultKind = "error"
	// SilentFailure answers 200 with ok:false and no error word.
	SilentFailure FaultKind = "ok_false"
	// HTML answers 200 with a web page, as a proxy in between might.
	HTML FaultKind = "html"
	// CommitThenDrop does what was asked, then drops the connection without an answer.
	CommitThenDrop FaultKind = "commit_then_drop"
	// CommitThenLimit does what was asked, then answers as RateLimited does; a limited
	// chat.postMessage has been reported to have been posted.
	CommitThenLimit FaultKind = "commit_then_429"
	// Drop drops the connection and does nothing. What is sent to the app is lost on its way.
	Drop FaultKind = "drop"
	// Duplicate delivers to the app twice; the person sees what came of the first.
	Duplicate FaultKind = "duplicate"
	// OutOfOrder keeps back what is sent to the app until something else was delivered, or
	// [Server.ReleaseHangs].
	OutOfOrder FaultKind = "out_of_order"
)

// Fault makes the next calls of one method, or the next deliveries to the app, go wrong.
type Fault struct {
	// Method is a Web API method, "response_url", or "*" for every one of them; or what is
	// sent to the app: [ForInteractions], [ForEvents] or [ForCommands], which can be Slow, or
	// meet Drop, Duplicate and OutOfOrder.
	Method string    `json:"method"`
	Kind   FaultKind `json:"kind"`
	// Times is how many calls are hit. Zero: one.
	Times int `json:"times,omitempty"`
	// RetryAfter is in seconds. Zero: the header is absent.
	RetryAfter int `json:"retry_after,omitempty"`
	// DelayMS is how long Slow takes, at most a minute.
	DelayMS int `json:"delay_ms,omitempty"`
	// Error is ErrorReply's word. Zero: "internal_error".
	Error string `json:"error,omitempty"`
}

func (f *Fault) kind() FaultKind {
	if f == nil {
		return ""
	}
	return f.Kind
}

// AddFault plans a fault. Faults of one method happen in the order they were added.
func (s *Server) AddFault(f Fault) {
	f.Times = cmp.Or(f.Times, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = lastOf(append(s.faults, &f), 1000)
	s.touch()
}

// ClearFaults forgets the faults that have not happened yet.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.touch()
}

// ReleaseHangs lets every call that hangs now answer as if nothing had happened, and delivers
// what OutOfOrder keeps back.
func (s *Server) ReleaseHangs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.release)
	s.release = make(chan struct{})
	s.releaseAside()
}

// SetOutage makes every Web API and response_url call lose its connection, or ends that.
func (s *Server) SetOutage(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage = down
	s.touch()
}

// SetAuthError makes the token's every use fail with code, such as "token_revoked" or
// "account_inactive"; empty makes the token good again.
func (s *Server) SetAuthError(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authError = code
}

// takeFault returns what shall go wrong with this call and counts it, or nil.
func (s *Server) takeFault(method string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage {
		return &Fault{Kind: Drop}
	}
	return s.useFault(method, "*")
}

// takeInbound is takeFault for what is sent to the app. Events that change places have done
// so before they get here.
func (s *Server) takeInbound(class string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if class == ForEvents && s.planned(class) == OutOfOrder {
		return nil
	}
	return s.useFault(class)
}

// useFault counts the first fault planned for one of the methods; the lock is held.
func (s *Server) useFault(methods ...string) *Fault {
	i := s.faultFor(methods...)
	if i < 0 {
		return nil
	}
	f := *s.faults[i]
	if s.faults[i].Times--; s.faults[i].Times <= 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	s.touch()
	return &f
}

func (s *Server) faultFor(methods ...string) int {
	return slices.IndexFunc(s.faults, func(f *Fault) bool { return slices.Contains(methods, f.Method) })
}

// planned returns the kind of the next fault of a method, "" for none.
func (s *Server) planned(method string) FaultKind {
	if i := s.faultFor(method); i >= 0 {
		return s.faults[i].Kind
	}
	return ""
}

// meet acts the fault out and says whether the call is over with that.
func (s *Server) meet(f *Fault, w http.ResponseWriter, r *http.Request) (over bool) {
	switch f.kind() {
	case RateLimited:
		rateLimited(w, f)
	case ServerError:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	case ErrorReply:
		writeJSON(w, http.StatusOK, object{"ok": false, "error": cmp.Or(f.Error, "internal_error")})
	case SilentFailure:
		writeJSON(w, http.StatusOK, object{"ok": false})
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>Maintenance</title><p>We will be right back.")
	case Drop:
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case Hang:
		s.hang(r)
		return false
	case Slow:
		s.delay(r, time.Duration(min(f.DelayMS, 60_000))*time.Millisecond)
		return false
	case CommitThenDrop, CommitThenLimit: // their part comes after the work
		return false
	case Duplicate, OutOfOrder: // for what is sent to the app alone
		return false
	default:
		return false
	}
	return true
}

// meetAfter acts out what goes wrong once the work is done, and says whether the call is over
// with that.
func (s *Server) meetAfter(f *Fault, w http.ResponseWriter) (over bool) {
	if f.kind() == CommitThenDrop {
		panic(http.ErrAbortHandler) // the connection drops with the work done
	}
	if f.kind() == CommitThenLimit {
		rateLimited(w, f)
		return true
	}
	return false
}

func rateLimited(w http.ResponseWriter, f *Fault) {
	word := "message_limit_exceeded"
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		word = "ratelimited"
	}
	writeJSON(w, http.StatusTooManyRequests, object{"ok": false, "error": word})
}

// hang waits to be released; a caller that gives up meanwhile has had no effect.
func (s *Server) hang(r *http.Request) {
	drain(r)
	s.mu.Lock()
	release := s.release
	s.mu.Unlock()
	select {
	case <-release:
	case <-r.Context().Done():
	case <-s.done:
		panic(http.ErrAbortHandler)
	}
	if r.Context().Err() != nil { // also when it was released at the same moment
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) delay(r *http.Request, d time.Duration) {
	drain(r)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-s.done:
	}
}

// drain reads the body ahead: the server only notices that a caller has gone once the body
// has been read.
func drain(r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
}
