package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn is a client as light as can be, so that the load costs the machine little: one
// connection, requests written from prepared bytes, answers read by their length.
type conn struct {
	c   net.Conn
	r   *bufio.Reader
	buf []byte
}

func dial(ctx context.Context, addr string) (*conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReader(c)}, nil
}

// roundTrip sends a request and returns the status and body of the answer.
func (c *conn) roundTrip(request string) (int, []byte, error) {
	c.buf = append(c.buf[:0], request...)
	if _, err := c.c.Write(c.buf); err != nil {
		return 0, nil, err
	}
	status, length := 0, 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			break
		}
		if status == 0 && len(text) > 12 {
			status, _ = strconv.Atoi(text[9:12])
		}
		if name, value, ok := strings.Cut(text, ":"); ok && strings.EqualFold(name, "content-length") {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(c.r, body)
	return status, body, err
}

// submitRequest is a submit of about the size that the yardstick's ticket has.
func (p *process) submitRequest(idempotencyKey, callback string) string {
	return p.submitMethod("DELETE", idempotencyKey, callback)
}

func (p *process) submitMethod(method, idempotencyKey, callback string) string {
	body := fmt.Sprintf(`{"upstream":"billing","method":"%s","path":"/customers/42","headers":{"Accept":"application/json"},`+
		`"body":{"reason":"%s"},"justification":"customer asked for erasure, case 991","callback":{"url":"%s/hook"},"metadata":{"case":"991"}}`,
		method, strings.Repeat("x", 600), callback)
	return fmt.Sprintf("POST /v1/tickets HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s", p.addr, p.key, idempotencyKey, len(body), body)
}

// load is one measurement of submits.
type load struct {
	latencies []time.Duration
	rate      float64
	failed    int
	cpu       time.Duration // Postgres's, per submit
	own       time.Duration // the service's, per submit
	memory    float64
}

func (b *bench) submits(ctx context.Context, p *process, conns int, label string) (load, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out load
	var firstErr error
	before, mine, began := b.postgresCPU(), processCPU(p.cmd.Process.Pid), time.Now()
	end := began.Add(b.duration)
	for n := range conns {
		wg.Go(func() {
			latencies, failed, err := b.submitUntil(ctx, p, end, fmt.Sprintf("%s-%d", label, n))
			mu.Lock()
			defer mu.Unlock()
			out.latencies, out.failed = append(out.latencies, latencies...), out.failed+failed
			if err != nil && firstErr == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	out.rate = float64(len(out.latencies)) / time.Since(began).Seconds()
	out.cpu = perRequest(b.postgresCPU()-before, float64(len(out.latencies)))
	out.own = perRequest(processCPU(p.cmd.Process.Pid)-mine, float64(len(out.latencies)))
	out.memory = residentMiB(p.cmd.Process.Pid)
	sorted(out.latencies)
	return out, firstErr
}

func (b *bench) submitUntil(ctx context.Context, p *process, end time.Time, label string) (latencies []time.Duration, failed int, err error) {
	c, err := dial(ctx, p.addr)
	if err != nil {
		return nil, 0, err
	}
	defer c.c.Close()
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		request := p.submitRequest(fmt.Sprintf("%s-%d", label, i), b.world.receiver)
		began := time.Now()
		status, body, err := c.roundTrip(request)
		if err != nil {
			return latencies, failed, err
		}
		if status != 202 {
			failed++
			if failed == 1 {
				err = fmt.Errorf("a submit was answered %d: %s", status, body)
				fmt.Fprintln(b.out, "#", err)
			}
			continue
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, failed, nil
}

// yardstickAndSubmit measures submits against pgbench: alternating, so that a machine
// that drifts drifts under both.
func (b *bench) yardstickAndSubmit(ctx context.Context) error {
	y32, err := b.yardstick(ctx, 32)
	if err != nil {
		return err
	}
	p, err := b.serve(ctx, false)
	if err != nil {
		return err
	}
	many, err := b.submits(ctx, p, b.conns, "many")
	if err != nil {
		return err
	}
	again, err := b.yardstick(ctx, 32)
	if err != nil {
		return err
	}
	y1, err := b.yardstick(ctx, 1)
	if err != nil {
		return err
	}
	one, err := b.submits(ctx, p, 1, "one")
	if err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return fmt.Errorf("the service did not stop cleanly: %w", err)
	}
	y := (y32.tps + again.tps) / 2
	fmt.Fprintf(b.out, "# yardstick: pgbench, one CTE of three inserts, 32 clients: %.0f and %.0f per second; 1 client: %.2f ms\n", y32.tps, again.tps, ms(y1.latency))
	note := fmt.Sprintf("%.0f submits/s, p50 %.1f ms, p99 %.1f ms, %d refused", many.rate, ms(quantile(many.latencies, .5)), ms(quantile(many.latencies, .99)), many.failed)
	fmt.Fprintf(b.out, "# CPU per submit: the service %d us, Postgres %d us; per pgbench transaction: Postgres %d us\n",
		many.own.Microseconds(), many.cpu.Microseconds(), ((y32.cpu + again.cpu) / 2).Microseconds())
	atLeast(b.out, "submit_ratio_no_workers", many.rate/y, 1.3, note)
	atMost(b.out, "submit_p99_over_p50", ms(quantile(many.latencies, .99))/ms(quantile(many.latencies, .5)), 4, "x", "")
	atMost(b.out, "submit_postgres_cpu", float64(many.cpu)/float64((y32.cpu+again.cpu)/2), 0.35, "x", "per request, against pgbench's")
	atMost(b.out, "submit_latency_1_connection", ms(quantile(one.latencies, .5))/ms(y1.latency), 1.5, "x", fmt.Sprintf("p50 %.2f ms", ms(quantile(one.latencies, .5))))
	atMost(b.out, "memory_under_submits", many.memory, 160, "MiB", "")
	atMost(b.out, "serve_ready", ms(p.start), 500, "ms", "from exec to the first 200 of /readyz")
	return nil
}
