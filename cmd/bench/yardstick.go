package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// yardstickSchema is what anybody would write: a ticket of about 1 kB, an audit event, a
// job.
const yardstickSchema = `
CREATE SCHEMA IF NOT EXISTS yardstick;
CREATE TABLE IF NOT EXISTS yardstick.ticket (id uuid PRIMARY KEY, caller text NOT NULL, state text NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS yardstick.audit (id bigserial PRIMARY KEY, ticket_id uuid NOT NULL, type text NOT NULL, data jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS yardstick.job (LIKE river_job INCLUDING ALL);
`

// yardstickScript inserts the three rows as one statement, the cheapest way there is to
// do it one request a transaction.
const yardstickScript = `
WITH t AS (INSERT INTO yardstick.ticket (id, caller, state, body) VALUES (gen_random_uuid(), 'payroll-bot', 'pending', repeat('x', 900)) RETURNING id),
     a AS (INSERT INTO yardstick.audit (ticket_id, type, data) SELECT id, 'ticket.created', '{"caller":"payroll-bot","method":"DELETE","path":"/customers/42"}' FROM t)
INSERT INTO yardstick.job (kind, queue, args, max_attempts) SELECT 'notify', 'notify', jsonb_build_object('ticket_id', id), 12 FROM t;
`

// measured is one pgbench run.
type measured struct {
	tps     float64
	latency time.Duration
	cpu     time.Duration // Postgres's, per transaction
}

func (b *bench) yardstick(ctx context.Context, clients int) (measured, error) {
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return measured{}, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, yardstickSchema); err != nil {
		return measured{}, fmt.Errorf("yardstick schema: %w", err)
	}
	script := filepath.Join(b.dir, "yardstick.sql")
	if err := os.WriteFile(script, []byte(yardstickScript), 0o600); err != nil {
		return measured{}, err
	}
	before := b.postgresCPU()
	seconds := strconv.Itoa(int(b.duration.Seconds()))
	cmd := exec.CommandContext(ctx, b.pgbench, "-n", "-M", "prepared", "-c", strconv.Itoa(clients),
		"-j", strconv.Itoa(min(clients, 2)), "-T", seconds, "-f", script, b.postgres.URL.Reveal())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return measured{}, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	m := measured{tps: number(out, `tps = ([0-9.]+)`), latency: time.Duration(number(out, `latency average = ([0-9.]+) ms`) * float64(time.Millisecond))}
	m.cpu = perRequest(b.postgresCPU()-before, number(out, `transactions actually processed: ([0-9]+)`))
	return m, nil
}

func number(out []byte, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64) // the pattern takes only numbers
	return v
}

func perRequest(cpu time.Duration, n float64) time.Duration {
	if n == 0 {
		return 0
	}
	return time.Duration(float64(cpu) / n)
}
