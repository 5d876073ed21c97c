package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// waiterRate is how many of the tickets that somebody waits for change a second.
const waiterRate = 200

// waiting measures many clients that wait for a ticket each at one process: what each of
// them costs it, and how soon they hear of a change that another process has committed.
func (b *bench) waiting(ctx context.Context) error {
	if b.waiters == 0 {
		return nil
	}
	p, err := b.serve(ctx, false)
	if err != nil {
		return err
	}
	ids, err := b.openMany(ctx, p, b.waiters)
	if err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return err
	}
	if p, err = b.serve(ctx, false); err != nil { // fresh, so that its memory is that of the waiters
		return err
	}
	if err := b.polls(ctx, p, ids); err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return err
	}
	if p, err = b.serve(ctx, false); err != nil {
		return err
	}
	other, err := b.serve(ctx, false)
	if err != nil {
		return err
	}
	if err := b.waitAll(ctx, p, other, ids); err != nil {
		return err
	}
	if err := other.stop(); err != nil {
		return fmt.Errorf("the second process did not stop cleanly: %w", err)
	}
	return nil
}

// openMany submits tickets that nobody decides on.
func (b *bench) openMany(ctx context.Context, p *process, n int) ([]string, error) {
	ids := make([]string, n)
	var next atomic.Int64
	return ids, inParallel(b.conns, func(int) error {
		c, err := dial(ctx, p.addr)
		if err != nil {
			return err
		}
		defer c.c.Close()
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			status, body, err := c.roundTrip(p.submitRequest(fmt.Sprintf("waited-%d", i), b.world.receiver))
			if err != nil || status != 202 {
				return fmt.Errorf("submit: %d %s: %w", status, body, err)
			}
			var ticket struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(body, &ticket); err != nil {
				return err
			}
			ids[i] = ticket.ID
		}
		return nil
	})
}

func inParallel(n int, do func(i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() { errs <- do(i) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *process) get(id, more string) string {
	return fmt.Sprintf("GET /v1/tickets/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s\r\n", id, p.addr, p.key, more)
}

// polls measures plain reading against the cheapest reading there is: pgbench, one row by
// its key, at as many connections.
func (b *bench) polls(ctx context.Context, p *process, ids []string) error {
	before, err := b.selects(ctx)
	if err != nil {
		return err
	}
	whole, err := b.reads(ctx, p, ids, "")
	if err != nil {
		return err
	}
	same, err := b.reads(ctx, p, ids, "If-None-Match: \"1\"\r\n")
	if err != nil {
		return err
	}
	after, err := b.selects(ctx)
	if err != nil {
		return err
	}
	y := (before + after) / 2
	fmt.Fprintf(b.out, "# yardstick: pgbench, one row of 1 kB by its key, %d clients: %.0f and %.0f per second\n", b.conns, before, after)
	atLeast(b.out, "poll_ratio", whole.rate/y, 0.8, fmt.Sprintf("%.0f tickets read a second, p99 %.1f ms, CPU of the service %d us each, of Postgres %d us",
		whole.rate, ms(quantile(whole.latencies, .99)), whole.own.Microseconds(), whole.cpu.Microseconds()))
	atLeast(b.out, "not_modified", same.rate/y, 0.8, fmt.Sprintf("%.0f answers of 304 a second, p99 %.1f ms, CPU of the service %d us each, of Postgres %d us",
		same.rate, ms(quantile(same.latencies, .99)), same.own.Microseconds(), same.cpu.Microseconds()))
	return nil
}

const selectsSchema = `
CREATE SCHEMA IF NOT EXISTS yardstick;
CREATE TABLE IF NOT EXISTS yardstick.polled (id bigint PRIMARY KEY, body text NOT NULL);
INSERT INTO yardstick.polled SELECT i, repeat('x', 900) FROM generate_series(1, 10000) i ON CONFLICT DO NOTHING;
`

// selects is pgbench's rate.
func (b *bench) selects(ctx context.Context) (float64, error) {
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, selectsSchema); err != nil {
		return 0, fmt.Errorf("schema of the yardstick: %w", err)
	}
	script := filepath.Join(b.dir, "selects.sql")
	if err := os.WriteFile(script, []byte("\\set id random(1, 10000)\nSELECT body FROM yardstick.polled WHERE id = :id;\n"), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, b.pgbench, "-n", "-M", "prepared", "-c", strconv.Itoa(b.conns), "-j", "2",
		"-T", strconv.Itoa(int(b.duration.Seconds())), "-f", script, b.postgres.URL.Reveal())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return number(out, `tps = ([0-9.]+)`), nil
}

func (b *bench) reads(ctx context.Context, p *process, ids []string, header string) (load, error) {
	var mu sync.Mutex
	var out load
	pg, own, began := b.postgresCPU(), processCPU(p.cmd.Process.Pid), time.Now()
	end := began.Add(b.duration)
	err := inParallel(b.conns, func(int) error {
		c, err := dial(ctx, p.addr)
		if err != nil {
			return err
		}
		defer c.c.Close()
		var latencies []time.Duration
		for time.Now().Before(end) {
			began := time.Now()
			status, body, err := c.roundTrip(p.get(ids[rand.IntN(len(ids))], header))
			if err != nil || status != 200 && status != 304 {
				return fmt.Errorf("read a ticket: %d %s: %w", status, body, err)
			}
			latencies = append(latencies, time.Since(began))
		}
		mu.Lock()
		defer mu.Unlock()
		out.latencies = append(out.latencies, latencies...)
		return nil
	})
	n := float64(len(out.latencies))
	out.rate = n / time.Since(began).Seconds()
	out.cpu, out.own = perRequest(b.postgresCPU()-pg, n), perRequest(processCPU(p.cmd.Process.Pid)-own, n)
	sorted(out.latencies)
	return out, err
}

// answers notes when each waiting client was answered.
type answers struct {
	mu     sync.Mutex
	at     map[string]time.Time
	failed atomic.Int64
}

// waitAll has every client wait for its ticket, changes tickets at a steady rate, half of
// them in the process at which their client waits and half in another, and measures from the
// time of the event, which is before its commit, to the answer in the client's hands.
func (b *bench) waitAll(ctx context.Context, p, other *process, ids []string) error {
	idle := residentMiB(p.cmd.Process.Pid)
	a := &answers{at: make(map[string]time.Time)}
	conns := make([]*conn, len(ids))
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.c.Close()
			}
		}
	}()
	for i := range ids {
		c, err := dial(ctx, p.addr)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		conns[i] = c
		go a.wait(c, p, ids[i])
	}
	time.Sleep(5 * time.Second) // for all of them to be waiting, and a look at everything
	if failed := a.failed.Load(); failed > 0 {
		return fmt.Errorf("%d of %d clients could not wait", failed, len(ids))
	}
	held, cpu := residentMiB(p.cmd.Process.Pid), processCPU(p.cmd.Process.Pid)
	changed, err := b.cancelSome(ctx, p, other, ids)
	if err != nil {
		return err
	}
	cpu = processCPU(p.cmd.Process.Pid) - cpu
	time.Sleep(2 * time.Second)
	local, remote, err := b.wakeTimes(ctx, a, changed)
	if err != nil {
		return err
	}
	n := len(local) + len(remote)
	peak := residentMiB(p.cmd.Process.Pid)
	each := func(mib float64) float64 { return (mib - idle) * 1024 / float64(len(ids)) }
	fmt.Fprintf(b.out, "# %d clients wait at one process, %d tickets change a second; %d of %d changes were answered; CPU of that process %d us each\n",
		len(ids), waiterRate, n, len(changed), perRequest(cpu, float64(n)).Microseconds())
	atMost(b.out, "waiters_memory_each", each(max(held, peak)), 64, "KiB", fmt.Sprintf("%.0f MiB before, %.0f MiB with all of them, %.0f MiB after the changes", idle, held, peak))
	atMost(b.out, "waiters_wake_p99", ms(quantile(sorted(remote), .99)), 150, "ms", fmt.Sprintf("changed in another process, p50 %.1f ms", ms(quantile(remote, .5))))
	atMost(b.out, "waiters_wake_local_p99", ms(quantile(sorted(local), .99)), 150, "ms", fmt.Sprintf("changed in the same process, p50 %.1f ms", ms(quantile(local, .5))))
	began := time.Now()
	if err := p.stop(); err != nil {
		return fmt.Errorf("the service did not stop cleanly: %w", err)
	}
	fmt.Fprintf(b.out, "# drained and stopped within %.1f s\n", time.Since(began).Seconds())
	if n < len(changed) {
		return fmt.Errorf("%d changes were never answered", len(changed)-n)
	}
	return nil
}

// wait asks once and notes when the answer came, then waits for what does not come.
func (a *answers) wait(c *conn, p *process, id string) {
	status, _, err := c.roundTrip(p.get(id+"?wait=60s", "If-None-Match: \"1\"\r\n"))
	now := time.Now()
	if err != nil || status != 200 {
		a.failed.Add(1)
		return
	}
	a.mu.Lock()
	a.at[id] = now
	a.mu.Unlock()
	_, _, _ = c.roundTrip(p.get(id+"?wait=60s", "If-None-Match: \"2\"\r\n")) // ends with the connection
}

// cancelSome withdraws tickets at the rate, by turns in the one process and in the other.
func (b *bench) cancelSome(ctx context.Context, p, other *process, ids []string) (map[string]bool, error) {
	total := min(int(b.duration.Seconds())*waiterRate, len(ids))
	changed := make(map[string]bool, total) // whether in the same process
	const hands = 16
	ticker := time.NewTicker(time.Second / waiterRate)
	defer ticker.Stop()
	work := make(chan int)
	go func() {
		defer close(work)
		for i := range total {
			<-ticker.C
			work <- i
		}
	}()
	for i := range total {
		changed[ids[i]] = i%2 == 0
	}
	return changed, inParallel(hands, func(int) error {
		at := map[bool]*process{true: p, false: other}
		conns := map[bool]*conn{}
		for _, same := range []bool{true, false} {
			c, err := dial(ctx, at[same].addr)
			if err != nil {
				return err
			}
			defer c.c.Close()
			conns[same] = c
		}
		for i := range work {
			same := i%2 == 0
			status, body, err := conns[same].roundTrip(fmt.Sprintf("POST /v1/tickets/%s/cancel HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n",
				ids[i], at[same].addr, at[same].key))
			if err != nil || status != 200 {
				return fmt.Errorf("cancel: %d %s: %w", status, body, err)
			}
		}
		return nil
	})
}

// wakeTimes is how long it took from each event to the answer.
func (b *bench) wakeTimes(ctx context.Context, a *answers, changed map[string]bool) (local, remote []time.Duration, err error) {
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT ticket_id, at FROM audit_events WHERE type = 'ticket.cancelled'`)
	if err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var id string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		answered, ok := a.at[id]
		same, ours := changed[id]
		switch {
		case !ok || !ours:
		case same:
			local = append(local, answered.Sub(at))
		default:
			remote = append(remote, answered.Sub(at))
		}
		return nil
	})
	return local, remote, err
}
