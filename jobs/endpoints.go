package jobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/policy"
)

const (
	// verifyEvery is the pause between two looks for endpoints that are to be asked, or told of.
	verifyEvery = 2 * time.Second
	// verifyBatch is how many are asked in one turn, verifyAtOnce how many at a time.
	verifyBatch, verifyAtOnce = 32, 8
	// verifyTimeout bounds one turn.
	verifyTimeout = 5 * time.Minute
	// alertEvery is how often people are told that an endpoint is failing, or of dead letters.
	alertEvery = time.Hour
)

// EndpointNotifier is a Notifier that tells people about callback endpoints, too. Calling it
// twice for the same is calling it once.
type EndpointNotifier interface {
	// EndpointTrouble tells the people of an endpoint's caller that it is failing, that a
	// delivery to it was given up, or that it was disabled, whichever it is.
	EndpointTrouble(ctx context.Context, e db.Endpoint) error
}

// ErrNotConfigured means that the configuration in force does not have the endpoint.
var ErrNotConfigured = errors.New("the configuration does not have this callback endpoint")

// ErrNotVerified means that the endpoint has not agreed to be sent callbacks.
var ErrNotVerified = errors.New("the callback endpoint is not verified")

// syncEndpoints writes the endpoints of a configuration down, if they are not those that were.
func (r *Runner) syncEndpoints(ctx context.Context, before []db.EndpointSpec) ([]db.EndpointSpec, error) {
	specs := specsOf(r.c.Policy())
	if before != nil && slices.Equal(specs, before) {
		return before, nil
	}
	return specs, r.c.Store.SyncEndpoints(ctx, specs)
}

func specsOf(config *policy.Config) []db.EndpointSpec {
	out := []db.EndpointSpec{}
	for _, c := range config.Callers {
		for _, e := range c.Endpoints {
			spec := db.EndpointSpec{Caller: c.Name, Origin: e.Origin, Waived: e.Waived}
			if e.Verify != "" {
				spec.ProbeURL = e.Origin + e.Verify
			}
			out = append(out, spec)
		}
	}
	return out
}

// endpointsForever keeps the endpoints as the configuration has them, asks those that have not
// agreed yet, and tells people of those that were disabled and of dead letters.
func (r *Runner) endpointsForever(ctx context.Context, specs []db.EndpointSpec) {
	every(ctx, verifyEvery, func() {
		bounded, cancel := context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
		now, err := r.syncEndpoints(bounded, specs)
		if err == nil {
			specs = now
			err = r.c.Store.Exclusively(bounded, "endpoints", func(ctx context.Context) error {
				return errors.Join(r.verifyDue(ctx), r.tellOfTrouble(ctx))
			})
		}
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot see to callback endpoints", slog.Any("error", err))
		}
	})
}

func (r *Runner) verifyDue(ctx context.Context) error {
	due, err := r.c.Store.DueVerifications(ctx, verifyBatch)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	room := make(chan struct{}, verifyAtOnce)
	errs := make([]error, len(due))
	for i, e := range due {
		room <- struct{}{}
		running.Go(func() {
			defer func() { <-room }()
			errs[i] = r.verifyOne(ctx, e)
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// verifyOne asks an endpoint because it is time to. What keeps us from asking counts as asking
// in vain, so that it is not tried every moment.
func (r *Runner) verifyOne(ctx context.Context, e db.Endpoint) error {
	by := approvals.Actor{Kind: approvals.ActorWorker, Name: r.id, Via: "job"}
	err := r.verify(ctx, e, by)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, r.c.Store.RecordVerification(ctx, e.ID, db.VerificationResult{Err: "it could not be asked from our side", By: by}))
}

// Verify asks an endpoint now whether it wants callbacks, and records what it says; reading it
// afterwards shows what that was. An error is of ours: what the endpoint says is none.
//
// Errors: CodeNotFound, ErrNotConfigured.
func (r *Runner) Verify(ctx context.Context, endpointID string) error {
	e, err := r.c.Store.EndpointByID(ctx, endpointID)
	if err != nil {
		return err
	}
	return r.verify(ctx, e, approvals.Actor{Kind: approvals.ActorWorker, Name: r.id, Via: "api"})
}

func (r *Runner) verify(ctx context.Context, e db.Endpoint, by approvals.Actor) error {
	got, err := r.challenge(ctx, e)
	var unusable *unusableError
	if errors.As(err, &unusable) {
		got, err = unasked(unusable.Error()), nil
	}
	if err != nil {
		return fmt.Errorf("verify endpoint %s: %w", e.ID, err)
	}
	attrs := []any{slog.String("endpoint_id", e.ID), slog.String("caller", e.Caller), slog.Bool("verified", got.Verified)}
	if got.Verified {
		attrs = append(attrs, slog.String("how", string(got.Method)))
	} else {
		attrs = append(attrs, slog.String("class", got.ErrorClass), slog.String("reason", got.Err), slog.Int("status", got.Status))
	}
	if got.Cause != nil {
		attrs = append(attrs, slog.Any("error", got.Cause))
	}
	r.log.InfoContext(ctx, "callback endpoint was asked whether it wants callbacks", attrs...)
	return r.c.Store.RecordVerification(ctx, e.ID, db.VerificationResult{
		OK: got.Verified, How: string(got.Method), Rate: got.AllowedRate, Err: got.Err, By: by,
	})
}

// unasked is the result where there was nothing to ask, or no way to do it.
func unasked(why string) egress.ChallengeResult {
	return egress.ChallengeResult{AttemptResult: egress.AttemptResult{ErrorClass: egress.ErrorInvalid, Err: why}}
}

func (r *Runner) challenge(ctx context.Context, e db.Endpoint) (egress.ChallengeResult, error) {
	if e.ProbeURL == "" {
		return unasked("it is not known where to ask: name verify in the configuration, or submit with a callback"), nil
	}
	config := r.c.Policy()
	caller, endpoint, ok := endpointOf(config, e.Caller, e.ProbeURL)
	if !ok || endpoint.Origin != e.Origin {
		return egress.ChallengeResult{}, ErrNotConfigured
	}
	a, err := r.prepare(ctx, config, caller, endpoint)
	if err != nil {
		return egress.ChallengeResult{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return egress.ChallengeResult{}, fmt.Errorf("make message id: %w", err)
	}
	return r.c.Deliverer.Challenge(ctx, egress.ChallengeRequest{
		URL: e.ProbeURL, ID: approvals.MessageID(id), Secrets: a.Secrets, SigningKeys: a.SigningKeys, Headers: a.Headers,
		Timeout: a.Timeout, RootCAs: a.RootCAs, ClientCertificates: a.ClientCertificates, Nonce: rand.Text(), Caller: e.Caller, Origin: hostOf(config.Server.PublicURL),
	}), nil
}

// hostOf is the name under which we are known, "" if there is none.
func hostOf(public string) string {
	u, err := url.Parse(public)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// TestEndpoint posts an endpoint.test event to an address of an endpoint, or to where it is
// asked when address is empty, in the way callbacks are posted, and returns what came of it.
// Nothing is recorded and nothing is charged. It does so for a disabled one, too: that is how
// to find out whether to enable it.
//
// Errors: CodeNotFound, ErrNotConfigured, ErrNotVerified.
func (r *Runner) TestEndpoint(ctx context.Context, endpointID, address string) (egress.AttemptResult, error) {
	e, err := r.c.Store.EndpointByID(ctx, endpointID)
	if err != nil {
		return egress.AttemptResult{}, err
	}
	if address == "" {
		address = e.ProbeURL
	}
	config := r.c.Policy()
	caller, endpoint, ok := endpointOf(config, e.Caller, address)
	if !ok || endpoint.Origin != e.Origin {
		return egress.AttemptResult{}, ErrNotConfigured
	}
	if e.Verification == db.Unverified {
		return egress.AttemptResult{}, ErrNotVerified
	}
	body, id, err := r.testEvent(e)
	if err != nil {
		return egress.AttemptResult{}, err
	}
	now := r.c.Now()
	d := db.Delivery{MessageID: id, URL: address, Payload: body, Trigger: db.Manual, CreatedAt: now}
	got := r.attempt(ctx, config, caller, endpoint, d)
	if e.Verification != db.Verified {
		got.ResponseSnippet = nil
	}
	return got, nil
}

func (r *Runner) testEvent(e db.Endpoint) (body []byte, messageID string, err error) {
	body, err = json.Marshal(map[string]any{
		"type": "endpoint.test", "timestamp": r.c.Now().UTC(), "data": map[string]string{"endpoint_id": e.ID, "caller": e.Caller},
	})
	if err != nil {
		return nil, "", fmt.Errorf("render the test event: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, "", fmt.Errorf("make message id: %w", err)
	}
	return body, approvals.MessageID(id), nil
}

// alert tells people that an endpoint is failing, at most once an hour.
func (r *Runner) alert(ctx context.Context, id string) {
	told, err := r.c.Store.AlertEndpoint(ctx, id, alertEvery)
	if err == nil && told {
		err = r.tell(ctx, id)
	}
	if err != nil {
		r.log.WarnContext(ctx, "cannot tell people about a callback endpoint", slog.String("endpoint_id", id), slog.Any("error", err))
	}
}

func (r *Runner) tell(ctx context.Context, id string) error {
	n, ok := r.c.Notifier.(EndpointNotifier)
	if !ok {
		return nil
	}
	e, err := r.c.Store.EndpointByID(ctx, id)
	if err != nil {
		return err
	}
	return n.EndpointTrouble(ctx, e)
}

// tellOfTrouble tells people of endpoints that were disabled since they were last told, and of
// deliveries that were given up. It looks for them, so that a process that dies after that
// leaves nobody in the dark.
func (r *Runner) tellOfTrouble(ctx context.Context) error {
	untold, err := r.c.Store.UntoldEndpoints(ctx, alertEvery, verifyBatch)
	errs := []error{err}
	for _, e := range untold {
		err := r.tell(ctx, e.ID)
		if err == nil {
			err = r.c.Store.ToldOfEndpoint(ctx, e.ID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
