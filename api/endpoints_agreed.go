package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
)

const (
	// agreedFor is how long an endpoint is believed to be verified without looking again.
	agreedFor = time.Minute
	// maxAgreed bounds how many are remembered: more than any configuration has.
	maxAgreed = 10_000
)

// agreements remembers which endpoints were verified a moment ago, so that not every submit
// has to look. That one is not is never remembered.
type agreements struct {
	mu   sync.Mutex
	seen map[string]time.Time // by id
}

func (a *agreements) has(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, known := a.seen[id]
	return known && now.Before(at.Add(agreedFor))
}

func (a *agreements) note(id string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil || len(a.seen) >= maxAgreed {
		a.seen = make(map[string]time.Time)
	}
	a.seen[id] = now
}

// checkAgreed refuses a callback to an endpoint that has not agreed to be sent any, and has it
// asked: at its configured address, else at the one that the submit names.
func (o operations) checkAgreed(ctx context.Context, x *exchange, e policy.Endpoint, address string) error {
	id := db.EndpointID(x.caller.Name, e.Origin)
	if e.Waived || o.agreed.has(id, o.now()) {
		return nil
	}
	found, err := o.store.Endpoint(ctx, x.caller.Name, e.Origin)
	if err != nil && approvals.ErrorCode(err) != approvals.CodeNotFound {
		return fmt.Errorf("read the endpoint of %s: %w", e.Origin, err)
	}
	if found.Verification == db.Verified {
		o.agreed.note(id, o.now())
		return nil
	}
	probe := address
	if e.Verify != "" {
		probe = e.Origin + e.Verify
	}
	wait, err := o.store.WantVerification(ctx, x.caller.Name, e.Origin, probe)
	if err != nil {
		return fmt.Errorf("have the endpoint of %s verified: %w", e.Origin, err)
	}
	return unverified(e, found, wait)
}

func unverified(e policy.Endpoint, found db.Endpoint, wait time.Duration) error {
	asked := "is being asked now"
	if wait >= time.Second {
		asked = fmt.Sprintf("is asked again in %d s", wait/time.Second)
	}
	detail := "this origin has not agreed to be sent callbacks. It " + asked + ": answer the signed endpoint.verification event " +
		"with its challenge, and submit again"
	if found.VerifyError != "" {
		detail += ". The last time: " + found.VerifyError
	}
	f := failItems(codeCallbackUnverified, []ProblemItem{{Pointer: "#/callback/url", Detail: cut(detail, maxEcho)}})
	f.detail = e.Origin + ": " + detail
	return f
}
