package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"countersign/jobs"
	"countersign/policy"
)

// pollEvery is how often the configuration's files are looked at. What is found there must
// be the same twice before it is taken over, so that a file is not read while somebody is
// still writing it.
const pollEvery = 2 * time.Second

// source is where a configuration comes from.
type source struct {
	path   string
	getenv func(string) string
	// read is the fingerprint of what load found.
	read fingerprint
}

// load reads the configuration and refuses one that no call could be made with. The
// fingerprint is taken first: a change in between is found at the next look.
func (s *source) load() (*policy.Config, error) {
	s.read = fingerprintOf(s.path)
	config, err := policy.Load(s.path, s.getenv)
	if err != nil {
		return nil, err
	}
	if err := jobs.CheckUpstreams(config); err != nil {
		return nil, usageError{err}
	}
	return config, nil
}

// reloader holds the configuration in force and replaces it, as a whole or not at all, when
// its files change or the process gets a SIGHUP, which also reads secrets from their files
// again. Whoever judges something takes one snapshot of it and stays with that.
type reloader struct {
	from source
	// start is the configuration as it was read first: what a running process cannot change
	// stays as it was then.
	start   *policy.Config
	current atomic.Pointer[policy.Config]
	hangup  chan os.Signal
	// changed is called after each change.
	changed func(before, after *policy.Config)
	log     *slog.Logger
}

// newReloader puts a configuration in force, which is start with what the command line
// changed of it. From here on a SIGHUP does not end the process.
func newReloader(from source, start, inForce *policy.Config, log *slog.Logger) *reloader {
	r := &reloader{
		from: from, start: start, hangup: make(chan os.Signal, 1), log: log,
		changed: func(_, _ *policy.Config) {},
	}
	r.current.Store(inForce)
	signal.Notify(r.hangup, syscall.SIGHUP)
	return r
}

func (r *reloader) close() { signal.Stop(r.hangup) }

// inForce returns the configuration in force.
func (r *reloader) inForce() *policy.Config { return r.current.Load() }

// watch replaces the configuration until ctx ends.
func (r *reloader) watch(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	tried, last := r.from.read, r.from.read
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangup:
			r.reload(ctx, "SIGHUP")
			tried, last = r.from.read, r.from.read
		case <-tick.C:
			now := fingerprintOf(r.from.path)
			if now == last && now != tried {
				r.reload(ctx, "files")
				tried = now
			}
			last = now
		}
	}
}

// reload takes over what is written now, if it is in order. why is what it was prompted by.
func (r *reloader) reload(ctx context.Context, why string) {
	next, err := r.from.load()
	if err != nil {
		r.refuse(ctx, err, why)
		return
	}
	before := r.inForce()
	if late := needRestart(r.start, next); len(late) > 0 {
		r.log.WarnContext(ctx, "part of the new configuration needs a restart and is not in force", slog.Any("needs_a_restart", late))
	}
	keepFixed(r.start, before, next)
	r.current.Store(next)
	r.log.LogAttrs(ctx, slog.LevelInfo, "configuration taken over", append([]slog.Attr{
		slog.String("prompted_by", why),
		slog.String("old_policy", before.Digest), slog.String("new_policy", next.Digest),
	}, changesOf(before, next).attrs()...)...)
	r.changed(before, next)
}

// refuse says everything that is wrong. The old configuration stays in force.
func (r *reloader) refuse(ctx context.Context, err error, why string) {
	var problems policy.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			r.log.ErrorContext(ctx, "problem in the new configuration", slog.String("problem", p.String()))
		}
	} else {
		r.log.ErrorContext(ctx, "problem in the new configuration", slog.Any("problem", err))
	}
	r.log.ErrorContext(ctx, "the new configuration is not taken over, the old one stays in force",
		slog.String("prompted_by", why), slog.String("policy", r.inForce().Digest), slog.Int("problems", max(len(problems), 1)))
}
