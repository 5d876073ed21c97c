package db

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/net/idna"

	"countersign/approvals"
	"countersign/health"
)

// ErrEndpointDisabled means that nothing is sent to the endpoint until somebody enables it.
var ErrEndpointDisabled = errors.New("the callback endpoint is disabled")

// Verification says whether an endpoint has agreed to be sent callbacks.
type Verification string

const (
	// Unverified endpoints are sent nothing but the question whether they agree.
	Unverified Verification = "unverified"
	// Verified endpoints have agreed.
	Verified Verification = "verified"
	// Waived endpoints need not be asked: the configuration says so.
	Waived Verification = "waived"
)

// Endpoint is one allowed origin of one caller's callbacks, and how it is doing.
type Endpoint struct {
	ID, Caller string
	// Origin is scheme://host:port with the port written out.
	Origin string
	// ProbeURL is where it is asked; empty: it is not known yet.
	ProbeURL     string
	Verification Verification
	// VerifiedAt and VerifiedHow ("challenge", "cloudevents") are set once it is verified.
	VerifiedAt  time.Time
	VerifiedHow string
	// VerifyTries is how often it was asked in vain, VerifyDueAt when it is asked next by
	// itself (zero: not), VerifyError a constant sentence about the last time.
	VerifyTries int
	VerifyDueAt time.Time
	VerifyError string
	// AllowedRate is how many messages a minute it said it takes; 0: it did not say.
	AllowedRate int
	// DisabledAt is zero unless it is disabled, by DisabledBy and because of DisabledWhy.
	DisabledAt              time.Time
	DisabledBy, DisabledWhy string
	// HeldUntil is until when it asked to be left alone; zero: it did not.
	HeldUntil time.Time
	Health    health.State
	// FailingSince is when the failures in a row began, Failures how many they are.
	FailingSince time.Time
	Failures     int
	// SucceededAt and FailedAt are of the last attempts, AlertedAt when people were last told.
	SucceededAt, FailedAt, AlertedAt time.Time
	// DeadLetterAt is when a delivery was given up, the first of those of which people have yet
	// to be told; zero: none.
	DeadLetterAt time.Time
	CreatedAt    time.Time
}

// Disabled reports whether it is sent nothing until somebody enables it.
func (e Endpoint) Disabled() bool { return !e.DisabledAt.IsZero() }

// EndpointID is the id of an origin of a caller: "end_" and 26 characters, always the same.
func EndpointID(caller, origin string) string {
	sum := sha256.Sum256([]byte(caller + "\x00" + origin))
	return "end_" + strings.TrimPrefix(approvals.MessageID([16]byte(sum[:16])), "msg_")
}

// endpointOf is the id of the endpoint of an address that was checked when it was submitted.
func endpointOf(caller, address string) string { return EndpointID(caller, originOf(address)) }

// hostNames maps names to ASCII as package egress does it.
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// originOf spells an origin as package egress does. What is no address is its own.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	} else if ascii, err := hostNames.ToASCII(host); err == nil {
		host = ascii
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}

const endpointColumns = `e.id, e.caller, e.origin, e.probe_url, e.verification, e.verified_at, e.verified_how, e.verify_tries, e.verify_due_at,
	e.verify_error, coalesce(e.allowed_rate, 0), e.disabled_at, e.disabled_by, e.disabled_why, e.held_until, e.health,
	e.failing_since, e.failures, e.succeeded_at, e.failed_at, e.alerted_at, e.dead_letter_at, e.created_at`

func scanEndpoint(r pgx.CollectableRow) (Endpoint, error) { return scanEndpointAnd(r) }

func scanEndpointAnd(r pgx.CollectableRow, more ...any) (Endpoint, error) {
	var e Endpoint
	var times [9]*time.Time
	targets := []any{
		&e.ID, &e.Caller, &e.Origin, &e.ProbeURL, &e.Verification, &times[0], &e.VerifiedHow, &e.VerifyTries, &times[1],
		&e.VerifyError, &e.AllowedRate, &times[2], &e.DisabledBy, &e.DisabledWhy, &times[3], &e.Health,
		&times[4], &e.Failures, &times[5], &times[6], &times[7], &times[8], &e.CreatedAt,
	}
	err := r.Scan(append(targets, more...)...)
	for i, to := range []*time.Time{
		&e.VerifiedAt, &e.VerifyDueAt, &e.DisabledAt, &e.HeldUntil, &e.FailingSince, &e.SucceededAt, &e.FailedAt, &e.AlertedAt, &e.DeadLetterAt,
	} {
		*to = utc(times[i])
	}
	e.CreatedAt = e.CreatedAt.UTC()
	return e, err
}

// utc is the zero time for null.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// Endpoint reads the endpoint of an origin of a caller. CodeNotFound when it was never
// configured.
func (s *Store) Endpoint(ctx context.Context, caller, origin string) (Endpoint, error) {
	return s.EndpointByID(ctx, EndpointID(caller, origin))
}

// EndpointByID reads an endpoint. CodeNotFound when there is none.
func (s *Store) EndpointByID(ctx context.Context, id string) (Endpoint, error) {
	all, err := s.endpoints(ctx, `WHERE e.id = $1`, id)
	if err == nil && len(all) == 0 {
		return Endpoint{}, &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such callback endpoint"}
	}
	if err != nil {
		return Endpoint{}, err
	}
	return all[0], nil
}

// EndpointFilter selects endpoints. Empty fields select everything.
type EndpointFilter struct {
	Caller string
	// Disabled selects those that are; Unverified those that are. Both false: all.
	Disabled, Unverified bool
	// After is the last id of the page before, Limit the length of a page; 0 means 200.
	After string
	Limit int
}

// Endpoints lists endpoints by their ids.
func (s *Store) Endpoints(ctx context.Context, f EndpointFilter) ([]Endpoint, error) {
	if f.Limit <= 0 {
		f.Limit = 200
	}
	return s.endpoints(ctx, `WHERE ($1 = '' OR e.caller = $1) AND (NOT $2 OR e.disabled_at IS NOT NULL)
		AND (NOT $3 OR e.verification = 'unverified') AND e.id > $4 ORDER BY e.id LIMIT $5`,
		f.Caller, f.Disabled, f.Unverified, f.After, f.Limit)
}

func (s *Store) endpoints(ctx context.Context, which string, args ...any) ([]Endpoint, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+endpointColumns+` FROM callback_endpoints e `+which, args...)
	if err != nil {
		return nil, classify(fmt.Errorf("list endpoints: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanEndpoint)
	return out, classify(err)
}

// EndpointStats are figures of an endpoint since a moment, and what it is owed now.
type EndpointStats struct {
	// Pending is what it is owed, Due how much of that should have been sent by now, Claimed
	// how much is being sent.
	Pending, Due, Claimed int
	// Delivered and Exhausted count deliveries that were made since.
	Delivered, Exhausted int
	// Attempts counts attempts since, Failed those that did not end with 2xx. P50 and P99 are
	// of the durations of all of them, in milliseconds.
	Attempts, Failed int
	P50, P99         float64
	// OldestDue is since when the longest waiting one has been due; zero: none is.
	OldestDue time.Time
}

// EndpointStats counts what became of an endpoint's deliveries that were made since.
func (s *Store) EndpointStats(ctx context.Context, id string, since time.Time) (EndpointStats, error) {
	var x EndpointStats
	var oldest *time.Time
	b := &pgx.Batch{}
	b.Queue(`SELECT count(*), count(*) FILTER (WHERE next_attempt_at <= clock_timestamp()), count(*) FILTER (WHERE claimed_until > clock_timestamp()),
		min(next_attempt_at) FILTER (WHERE next_attempt_at <= clock_timestamp())
		FROM deliveries WHERE endpoint_id = $1 AND state = 'pending'`, id)
	b.Queue(`SELECT count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state = 'exhausted')
		FROM deliveries WHERE endpoint_id = $1 AND created_at >= $2`, id, since)
	b.Queue(`SELECT count(*), count(*) FILTER (WHERE a.status NOT BETWEEN 200 AND 299),
		coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY a.duration_ms), 0), coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY a.duration_ms), 0)
		FROM deliveries d JOIN delivery_attempts a USING (ticket_id, seq) WHERE d.endpoint_id = $1 AND d.created_at >= $2`, id, since)
	res := s.pool.SendBatch(ctx, b)
	defer res.Close() //nolint:errcheck // what matters was read
	if err := res.QueryRow().Scan(&x.Pending, &x.Due, &x.Claimed, &oldest); err != nil {
		return x, classify(fmt.Errorf("count what is owed to %s: %w", id, err))
	}
	if err := res.QueryRow().Scan(&x.Delivered, &x.Exhausted); err != nil {
		return x, classify(fmt.Errorf("count deliveries of %s: %w", id, err))
	}
	x.OldestDue = utc(oldest)
	return x, classify(res.QueryRow().Scan(&x.Attempts, &x.Failed, &x.P50, &x.P99))
}
