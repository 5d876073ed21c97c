package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"countersign/api"
	"countersign/egress"
	"countersign/jobs"
	"countersign/policy"
)

// direct lets the front make the calls that policy allows outright in this very process, so
// that their answers arrive as they come. Nil where this process works no jobs: it makes no
// calls either.
func (s *service) direct() func(ctx context.Context, ticketID string, sink api.AnswerSink) error {
	if !s.cfg.workers {
		return nil
	}
	return func(ctx context.Context, ticketID string, sink api.AnswerSink) error {
		return s.runner.Direct(ctx, ticketID, sink)
	}
}

// verifyEndpoint asks an endpoint whether it wants callbacks. Nil where this process makes no
// calls.
func (s *service) verifyEndpoint() func(ctx context.Context, id string) error {
	if !s.cfg.workers {
		return nil
	}
	return func(ctx context.Context, id string) error { return endpointError(s.runner.Verify(ctx, id)) }
}

// endpointError tells the API, which does not know the workers, what an endpoint has become
// since it looked.
func endpointError(err error) error {
	switch {
	case errors.Is(err, jobs.ErrNotConfigured):
		return fmt.Errorf("%w: %w", api.ErrEndpointGone, err)
	case errors.Is(err, jobs.ErrNotVerified):
		return fmt.Errorf("%w: %w", api.ErrEndpointUnverified, err)
	}
	return err
}

// testEndpoint posts a test event. Nil where this process makes no calls.
func (s *service) testEndpoint() func(ctx context.Context, id, address string) (api.EndpointTest, error) {
	if !s.cfg.workers {
		return nil
	}
	return func(ctx context.Context, id, address string) (api.EndpointTest, error) {
		got, err := s.runner.TestEndpoint(ctx, id, address)
		if err != nil {
			return api.EndpointTest{}, endpointError(err)
		}
		return api.EndpointTest{
			Delivered: got.Class == egress.Delivered, Status: got.Status, Class: got.ErrorClass, Error: got.Err,
			DurationMs: got.Duration.Milliseconds(), Response: string(got.ResponseSnippet),
			Timing: api.AttemptTiming{
				DNSMs: got.Timing.DNS.Milliseconds(), ConnectMs: got.Timing.Connect.Milliseconds(),
				TLSMs: got.Timing.TLS.Milliseconds(), FirstByteMs: got.Timing.FirstByte.Milliseconds(),
			},
		}, nil
	}
}

// keySet is what receivers verify asymmetric signatures with. A key that cannot be read is
// refused when the configuration is loaded.
func (s *service) keySet(current func() *policy.Config) func() []byte {
	return func() []byte {
		var keys []egress.SigningKey
		for _, text := range current().Signing.Keys {
			key, err := egress.ParseSigningKey(text.Reveal())
			if err != nil {
				s.cfg.log.Error("a signing key cannot be read", slog.Any("error", err))
				continue
			}
			keys = append(keys, key)
		}
		return egress.JWKS(keys)
	}
}
