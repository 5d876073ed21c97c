package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"countersign/policy"
)

// process is the service under test.
type process struct {
	cmd   *exec.Cmd
	addr  string
	key   string
	start time.Duration // from exec to ready
}

// serve starts the service and waits until it is ready.
func (b *bench) serve(ctx context.Context, workers bool) (*process, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.served++
	p := &process{addr: l.Addr().String()}
	_ = l.Close() // the port is the service's now
	key, hash, err := policy.NewKey()
	if err != nil {
		return nil, err
	}
	p.key = key
	yaml, env := b.world.configuration(p.addr, hash)
	config := filepath.Join(b.dir, "bench.yaml")
	if err := os.WriteFile(config, []byte(yaml), 0o600); err != nil {
		return nil, err
	}
	args := []string{"serve", "--config", config, "--log-level", "warn"}
	if !workers {
		args = append(args, "--no-workers")
	}
	if b.profile != "" {
		args = append(args, "--cpu-profile", filepath.Join(b.profile, fmt.Sprintf("serve-%d-workers-%t.pprof", b.served, workers)))
	}
	p.cmd = exec.CommandContext(ctx, b.binary, args...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 15 * time.Second
	p.cmd.Env = append(append(os.Environ(), env...), "DATABASE_URL="+b.postgres.URL.Reveal())
	if b.verbose {
		p.cmd.Stderr = os.Stderr
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.start = time.Since(began)
	return p, nil
}

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("the service is not ready: %w", ctx.Err())
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}
