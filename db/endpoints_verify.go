package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// EndpointSpec is what the configuration says of an endpoint.
type EndpointSpec struct {
	Caller, Origin string
	// ProbeURL is where it is asked; empty: the first address that a submit names.
	ProbeURL string
	// Waived: it need not be asked.
	Waived bool
}

// SyncEndpoints writes down the endpoints of the configuration in force. New ones are due to be
// asked, unless that is waived; a waiver that is taken back makes one unverified again. Those
// that are not in it any more stay as they are and are asked nothing: one that comes back is
// still verified, as it agreed under the secrets of the same caller, and who wants to be sure
// asks it again.
func (s *Store) SyncEndpoints(ctx context.Context, specs []EndpointSpec) error {
	var ids, callers, origins, probes []string
	var waived []bool
	for _, x := range specs {
		ids, callers, origins = append(ids, EndpointID(x.Caller, x.Origin)), append(callers, x.Caller), append(origins, x.Origin)
		probes, waived = append(probes, x.ProbeURL), append(waived, x.Waived)
	}
	b := &pgx.Batch{}
	b.Queue(`INSERT INTO callback_endpoints AS e (id, caller, origin, probe_url, verification, verify_due_at)
		SELECT x.id, x.caller, x.origin, x.probe, CASE WHEN x.waived THEN 'waived' ELSE 'unverified' END,
			CASE WHEN NOT x.waived AND x.probe <> '' THEN clock_timestamp() END
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[]) AS x (id, caller, origin, probe, waived) ORDER BY x.id
		ON CONFLICT (id) DO UPDATE SET probe_url = coalesce(nullif(excluded.probe_url, ''), e.probe_url),
			verification = CASE WHEN e.verification = 'verified' THEN 'verified' ELSE excluded.verification END,
			verify_tries = CASE WHEN e.verification = excluded.verification THEN e.verify_tries ELSE 0 END,
			verify_due_at = CASE WHEN e.verification = 'verified' OR excluded.verification = 'waived' THEN NULL
				WHEN e.verification = 'unverified' AND e.verify_due_at IS NOT NULL AND excluded.probe_url IN ('', e.probe_url) THEN e.verify_due_at
				WHEN excluded.probe_url <> '' OR e.probe_url <> '' THEN clock_timestamp() END
		WHERE e.verification <> 'verified' AND (e.verification <> excluded.verification OR e.verification = 'unverified' AND e.verify_due_at IS NULL)
			OR excluded.probe_url NOT IN ('', e.probe_url)`,
		list(ids), list(callers), list(origins), list(probes), waived)
	b.Queue(`UPDATE callback_endpoints SET verify_due_at = NULL WHERE verify_due_at IS NOT NULL AND NOT id = ANY($1)`, list(ids))
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return classify(fmt.Errorf("write down %d endpoints: %w", len(specs), err))
	}
	return nil
}

// verifyAgain is how soon after another an endpoint may be asked because of a submit.
const verifyAgain = 10 * time.Second

// WantVerification has an unverified endpoint asked at once, where it is told to be unless that
// is known, but not within ten seconds after another time. It returns how long it takes until
// then; zero: it is due.
func (s *Store) WantVerification(ctx context.Context, caller, origin, probeURL string) (wait time.Duration, err error) {
	err = s.pool.QueryRow(ctx, `INSERT INTO callback_endpoints AS e (id, caller, origin, probe_url, verify_due_at)
		VALUES ($1, $2, $3, $4, clock_timestamp())
		ON CONFLICT (id) DO UPDATE SET probe_url = CASE WHEN e.probe_url = '' THEN excluded.probe_url ELSE e.probe_url END,
			verify_due_at = least(e.verify_due_at, greatest(clock_timestamp(), e.verify_asked_at + $5::interval))
		WHERE e.verification = 'unverified' RETURNING greatest(e.verify_due_at - clock_timestamp(), interval '0')`, EndpointID(caller, origin), caller, origin, probeURL, verifyAgain).Scan(&wait)
	if errors.Is(err, pgx.ErrNoRows) { // it has agreed meanwhile
		return 0, nil
	}
	if err != nil {
		return 0, classify(fmt.Errorf("have endpoint %s verified: %w", origin, err))
	}
	return wait, nil
}

// DueVerifications lists endpoints that are to be asked now, the longest waiting first.
func (s *Store) DueVerifications(ctx context.Context, limit int) ([]Endpoint, error) {
	return s.endpoints(ctx, `WHERE e.verification = 'unverified' AND e.verify_due_at <= clock_timestamp() ORDER BY e.verify_due_at LIMIT $1`, limit)
}

// VerificationResult is what came of asking an endpoint.
type VerificationResult struct {
	// OK: it agreed, as How says: "challenge" or "cloudevents".
	OK  bool
	How string
	// Rate is how many messages a minute it takes; 0: it did not say.
	Rate int
	// Err is a constant sentence about why not. Empty if OK.
	Err string
	// By is who had it asked.
	By approvals.Actor
}

// verifyWaits are the waits after each vain try; the last one is repeated.
var verifyWaits = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 24 * time.Hour}

// RecordVerification notes what came of asking an endpoint. One that was verified stays so when
// it does not answer another time. CodeNotFound when there is none.
func (s *Store) RecordVerification(ctx context.Context, id string, v VerificationResult) error {
	return s.changeEndpoint(ctx, id, func(tx pgx.Tx, e Endpoint) error {
		if v.OK {
			return verified(ctx, tx, id, v)
		}
		wait := verifyWaits[min(e.VerifyTries, len(verifyWaits)-1)]
		_, err := tx.Exec(ctx, `UPDATE callback_endpoints SET verify_tries = verify_tries + 1, verify_error = $2, verify_asked_at = clock_timestamp(),
			verify_due_at = CASE WHEN verification = 'unverified' THEN clock_timestamp() + $3::interval END WHERE id = $1`, id, v.Err, wait)
		if err != nil {
			return err
		}
		return noteService(ctx, tx, EndpointStream(id), EndpointVerificationFailed, v.By, map[string]string{"error": v.Err})
	})
}

func verified(ctx context.Context, tx pgx.Tx, id string, v VerificationResult) error {
	_, err := tx.Exec(ctx, `UPDATE callback_endpoints SET verification = 'verified', verified_at = clock_timestamp(), verified_how = $2,
		verify_tries = 0, verify_error = '', verify_due_at = NULL, allowed_rate = nullif($3, 0) WHERE id = $1`, id, v.How, v.Rate)
	if err != nil {
		return err
	}
	return noteService(ctx, tx, EndpointStream(id), EndpointVerified, v.By, map[string]any{"how": v.How, "rate": v.Rate})
}
