package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// lifecycle measures whole lives at a steady rate: submit, card, two approvals, upstream,
// callback. Every duration ends with a byte that this process saw arrive.
func (b *bench) lifecycle(ctx context.Context) error {
	// What earlier measurements left would be worked off in the middle of this one.
	if err := b.emptyQueues(ctx); err != nil {
		return err
	}
	p, err := b.serve(ctx, true)
	if err != nil {
		return err
	}
	submitted := make(map[string]time.Time)
	if err := b.timers(ctx, p); err != nil {
		return err
	}
	clicks := b.startClicking(ctx, p)
	if err := b.paced(ctx, p, submitted); err != nil {
		return err
	}
	finished := b.awaitCallbacks(len(submitted))
	pg, own := b.postgresCPU(), processCPU(p.cmd.Process.Pid)
	complete, err := b.sustained(ctx, p)
	if err != nil {
		return err
	}
	lives := complete * b.duration.Seconds()
	fmt.Fprintf(b.out, "# CPU per whole ticket: the service %d us, Postgres %d us\n",
		perRequest(processCPU(p.cmd.Process.Pid)-own, lives).Microseconds(), perRequest(b.postgresCPU()-pg, lives).Microseconds())
	close(clicks.stop)
	clicks.wg.Wait()
	if err := p.stop(); err != nil {
		return fmt.Errorf("the service did not stop cleanly: %w", err)
	}
	approved, err := b.approvedAt(ctx)
	if err != nil {
		return err
	}
	b.reportLifecycle(submitted, approved, finished)
	y, err := b.yardstick(ctx, 32)
	if err != nil {
		return err
	}
	atLeast(b.out, "complete_ratio", complete/y.tps, 0.12, fmt.Sprintf("%.0f whole tickets a second, %d in flight: submit, card, two approvals, call, callback", complete, b.conns))
	return b.withWorkers(ctx)
}

// timers measures how late deadlines fire: tickets that nobody decides, by the audit
// trail's own times.
func (b *bench) timers(ctx context.Context, p *process) error {
	c, err := dial(ctx, p.addr)
	if err != nil {
		return err
	}
	defer c.c.Close()
	const tickets = 200
	for i := range tickets {
		if status, body, err := c.roundTrip(p.submitMethod("POST", fmt.Sprintf("timer-%d", i), b.world.receiver)); err != nil || status != 202 {
			return fmt.Errorf("submit: %d %s: %w", status, body, err)
		}
	}
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var late []time.Duration
	for deadline := time.Now().Add(20 * time.Second); len(late) < tickets && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		rows, err := conn.Query(ctx, `SELECT e.at - t.expires_at FROM audit_events e JOIN tickets t ON t.id = e.ticket_id WHERE e.type = 'ticket.expired'`)
		if err != nil {
			return err
		}
		if late, err = pgx.CollectRows(rows, pgx.RowTo[time.Duration]); err != nil {
			return err
		}
	}
	atMost(b.out, "timer_late_p99", ms(quantile(sorted(late), .99)), 1500, "ms", fmt.Sprintf("%d of %d deadlines fired", len(late), tickets))
	b.world.drainCards()
	return nil
}

// sustained keeps as many tickets in flight as there are connections, each submitted when
// the callback of the one before it has come, and returns how many were completed a
// second.
func (b *bench) sustained(ctx context.Context, p *process) (float64, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var firstErr error
	var done int
	began := time.Now()
	end := began.Add(b.duration)
	for n := range b.conns {
		wg.Go(func() {
			completed, err := b.liveUntil(ctx, p, end, fmt.Sprintf("sustained-%d", n))
			mu.Lock()
			defer mu.Unlock()
			done += completed
			if err != nil && firstErr == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	return float64(done) / time.Since(began).Seconds(), firstErr
}

func (b *bench) liveUntil(ctx context.Context, p *process, end time.Time, label string) (completed int, err error) {
	c, err := dial(ctx, p.addr)
	if err != nil {
		return 0, err
	}
	defer c.c.Close()
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		status, body, err := c.roundTrip(p.submitRequest(fmt.Sprintf("%s-%d", label, i), b.world.receiver))
		if err != nil || status != 202 {
			return completed, fmt.Errorf("submit: %d %s: %w", status, body, err)
		}
		var ticket struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(body, &ticket); err != nil {
			return completed, err
		}
		for !b.world.wasCalled(ticket.ID) {
			if time.Now().After(end.Add(20 * time.Second)) {
				return completed, fmt.Errorf("ticket %s was never completed", ticket.ID)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if time.Now().Before(end) {
			completed++
		}
	}
	return completed, nil
}

// withWorkers measures submits while every card, timer and update is worked in the same
// process.
func (b *bench) withWorkers(ctx context.Context) error {
	y, err := b.yardstick(ctx, 32)
	if err != nil {
		return err
	}
	p, err := b.serve(ctx, true)
	if err != nil {
		return err
	}
	got, err := b.submits(ctx, p, b.conns, "workers")
	if err != nil {
		return err
	}
	atLeast(b.out, "submit_ratio_all_workers", got.rate/y.tps, 0.9, fmt.Sprintf("%.0f submits/s, p99 %.1f ms, %d refused", got.rate, ms(quantile(got.latencies, .99)), got.failed))
	_ = p.stop() // cards in flight may be cut off; nothing is measured any more
	return nil
}

// paced submits at the rate, on one connection per ten a second.
func (b *bench) paced(ctx context.Context, p *process, submitted map[string]time.Time) error {
	ticker := time.NewTicker(time.Second / time.Duration(b.rate))
	defer ticker.Stop()
	c, err := dial(ctx, p.addr)
	if err != nil {
		return err
	}
	defer c.c.Close()
	for i := range int(b.duration.Seconds()) * b.rate {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		began := time.Now()
		status, body, err := c.roundTrip(p.submitRequest(fmt.Sprintf("life-%d", i), b.world.receiver))
		if err != nil || status != 202 {
			return fmt.Errorf("submit: %d %s: %w", status, body, err)
		}
		var ticket struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(body, &ticket); err != nil {
			return err
		}
		submitted[ticket.ID] = began
	}
	return nil
}

type clicking struct {
	stop chan struct{}
	wg   sync.WaitGroup
}

// startClicking approves every card as it is posted, first as ana, then as bo.
func (b *bench) startClicking(ctx context.Context, p *process) *clicking {
	c := &clicking{stop: make(chan struct{})}
	for range 8 {
		c.wg.Go(func() {
			conn, err := dial(ctx, p.addr)
			if err != nil {
				return
			}
			defer conn.c.Close()
			for {
				select {
				case <-c.stop:
					return
				case k := <-b.world.cards:
					for _, user := range []string{"U0ANA", "U0BO"} {
						if status, body, err := conn.roundTrip(p.click(k, user)); err != nil || status != 200 {
							fmt.Fprintf(b.out, "# a click was answered %d: %s %v\n", status, body, err)
						}
					}
				}
			}
		})
	}
	return c
}

// click is a signed press of a card's Approve button.
func (p *process) click(k card, user string) string {
	payload := fmt.Sprintf(`{"type":"block_actions","api_app_id":"%s","team":{"id":"%s"},"user":{"id":"%s","team_id":"%s"},`+
		`"container":{"type":"message","channel_id":"%s","message_ts":"%s"},"channel":{"id":"%s"},"trigger_id":"1.2.%s",`+
		`"actions":[{"type":"button","action_id":"cs.approve","block_id":"act","value":"%s","action_ts":"1"}]}`,
		app, team, user, team, k.channel, k.ts, k.channel, k.handle, k.handle)
	body := "payload=" + url.QueryEscape(payload)
	stamp := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(signingSecret))
	_, _ = fmt.Fprintf(mac, "v0:%s:%s", stamp, body) // a hash never fails
	return fmt.Sprintf("POST /slack/interactions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"X-Slack-Request-Timestamp: %s\r\nX-Slack-Signature: v0=%s\r\nContent-Length: %d\r\n\r\n%s",
		p.addr, stamp, hex.EncodeToString(mac.Sum(nil)), len(body), body)
}

// awaitCallbacks waits until every ticket's callback has come, or no more do for a while.
func (b *bench) awaitCallbacks(n int) int {
	got, still := -1, 0
	for still < 100 {
		b.world.mu.Lock()
		now := len(b.world.called)
		b.world.mu.Unlock()
		if now >= n {
			return now
		}
		if now == got {
			still++
		} else {
			got, still = now, 0
		}
		time.Sleep(50 * time.Millisecond)
	}
	return got
}

// approvedAt reads when each ticket was approved: the database's clock under the row
// lock, which is before the commit, so that what is measured from it is never too kind.
func (b *bench) approvedAt(ctx context.Context) (map[string]time.Time, error) {
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT ticket_id, at FROM audit_events WHERE type = 'ticket.approved'`)
	if err != nil {
		return nil, err
	}
	out := make(map[string]time.Time)
	var id string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		out[id] = at
		return nil
	})
	return out, err
}

func (b *bench) emptyQueues(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.postgres.URL.Reveal())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// Not DELETE: its dead rows would be in the way of every fetch until a vacuum.
	if _, err := conn.Exec(ctx, `TRUNCATE river_job`); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `VACUUM ANALYZE`)
	return err
}

func (b *bench) reportLifecycle(submitted, approved map[string]time.Time, finished int) {
	w := b.world
	w.mu.Lock()
	defer w.mu.Unlock()
	var decision, callback, whole []time.Duration
	for id, began := range submitted {
		at, reached := w.arrived[id]
		done, told := w.called[id]
		if ok, known := approved[id]; known && reached {
			decision = append(decision, at.Sub(ok))
		}
		if reached && told {
			callback = append(callback, done.Sub(w.answered[id]))
			whole = append(whole, done.Sub(began))
		}
	}
	note := fmt.Sprintf("%d of %d tickets finished at %d/s", finished, len(submitted), b.rate)
	atMost(b.out, "decision_to_upstream_p50", ms(quantile(sorted(decision), .5)), 10, "ms", note)
	atMost(b.out, "decision_to_upstream_p99", ms(quantile(decision, .99)), 50, "ms", "")
	atMost(b.out, "answer_to_callback_p50", ms(quantile(sorted(callback), .5)), 10, "ms", "")
	atMost(b.out, "answer_to_callback_p99", ms(quantile(callback, .99)), 50, "ms", "")
	atMost(b.out, "submit_to_callback_p99", ms(quantile(sorted(whole), .99)), 1000, "ms", "two approvals pressed as soon as the card is there")
}
