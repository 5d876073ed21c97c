package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/envelope"
	"countersign/jobs"
	"countersign/policy"
	"countersign/slack"
)

// pageURL is where a ticket's page lives. There is none yet, so cards carry no link that
// would lead nowhere.
const pageURL = ""

// serviceConfig is what a running service is made of. dev and serve differ only in this.
type serviceConfig struct {
	// policy is the configuration to begin with, start what was read of it from source: the
	// same but for what the command line changed.
	policy, start *policy.Config
	source        source
	// reloaded is called when another configuration is in force. Nil: nobody is interested.
	reloaded    func(changes)
	databaseURL string
	box         *envelope.Box
	listener    net.Listener
	slackHTTP   slack.Doer
	// workers says whether this process works jobs, or is a front only.
	workers bool
	now     func() time.Time
	log     *slog.Logger
}

// service is the product: one store, its workers and its HTTP front.
type service struct {
	cfg    serviceConfig
	config *reloader
	store  *db.Store
	slack  *conversation // nil: Slack is not configured
	runner *jobs.Runner
	front  *api.Server
	http   *http.Server
	closes []func()
}

// newService wires the parts, from the database up: outbox → store → workers → front.
// Nothing runs yet but the store's committers.
func newService(ctx context.Context, c serviceConfig) (_ *service, err error) {
	s := &service{cfg: c, config: newReloader(c.source, c.start, c.policy, c.log)}
	s.closes = append(s.closes, s.config.close)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	pool, err := db.Open(ctx, db.PoolConfig{URL: c.databaseURL, MaxConns: 30, Logger: c.log})
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, pool.Close)
	outbox, err := jobs.NewOutbox()
	if err != nil {
		return nil, err
	}
	s.store, err = db.New(db.Config{ //nolint:contextcheck // the committers outlive the start
		Pool: pool, Outbox: outbox, Box: c.box, PublicURL: c.policy.Server.PublicURL, Logger: c.log,
	})
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, s.store.Close)
	if err := s.store.Ready(ctx); err != nil {
		return nil, err
	}
	if err := s.store.CheckKeys(ctx); err != nil {
		return nil, err
	}
	current := s.config.inForce
	if c.policy.Slack.Configured() {
		if s.slack, err = s.converse(ctx); err != nil {
			return nil, err
		}
		current = s.slack.people.Policy // the same, with what Slack says of people
	} else {
		c.log.WarnContext(ctx, "no slack section in the configuration: nobody will be asked")
	}
	s.runner, err = s.newRunner(outbox, current, pool)
	if err != nil {
		return nil, err
	}
	s.config.changed = s.reloaded
	return s, s.frontend(ctx, current)
}

// reloaded passes on that another configuration is in force.
func (s *service) reloaded(before, after *policy.Config) {
	if s.slack != nil {
		s.slack.reloaded(context.Background(), after.Slack)
	}
	s.judgeAgain()
	if s.cfg.reloaded != nil {
		s.cfg.reloaded(changesOf(before, after))
	}
}

// judgeAgain has open tickets looked at, because who may decide on them may have changed.
func (s *service) judgeAgain() {
	if s.runner != nil { // while the service is being made there is nothing to judge yet
		s.runner.PolicyChanged()
	}
}

func (s *service) close() {
	for i := len(s.closes) - 1; i >= 0; i-- {
		s.closes[i]()
	}
}

// callbackConns is at least the highest concurrency an endpoint can be given: how many are
// sent at a time is decided before, and an attempt is not to wait within its own deadline.
const callbackConns = 256

func callbackPolicy(c *policy.Config) egress.Policy {
	e := c.Egress.Callbacks
	return egress.Policy{
		AllowLoopback: e.AllowLoopback, AllowHTTP: e.AllowHTTP, AllowPrefixes: e.AllowPrefixes, AllowPorts: e.AllowPorts,
		Proxy: e.Proxy, MaxConnsPerHost: callbackConns,
	}
}

func (s *service) frontend(ctx context.Context, current func() *policy.Config) error {
	c := s.cfg
	key, err := s.store.Secret(ctx, fingerprintSecret)
	if err != nil {
		return err
	}
	var clicks http.Handler
	if s.slack != nil {
		clicks = s.slack.handler()
	}
	identify, err := s.identify(current)
	if err != nil {
		return err
	}
	front, err := api.New(api.Config{ //nolint:contextcheck // its log lines carry the contexts of requests
		Store: s.store, Policy: current, CheckCall: checkCall, PublicURL: c.policy.Server.PublicURL,
		CheckCallbackURL: func(raw string) (string, error) {
			u, err := egress.CheckURL(raw, callbackPolicy(current()))
			if err != nil {
				return "", err
			}
			return egress.Origin(u), nil
		},
		MaxBody: c.policy.Server.MaxBody, Now: c.now, Logger: c.log, Version: version, Slack: clicks, FingerprintKey: key, Identify: identify,
		Direct: s.direct(), VerifyEndpoint: s.verifyEndpoint(), TestEndpoint: s.testEndpoint(), KeySet: s.keySet(current),
	})
	if err != nil {
		return err
	}
	s.front = front
	s.http = &http.Server{
		Handler: front.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		// Longer than the longest poll and the time to answer it.
		WriteTimeout: 90 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	return nil
}

func checkCall(path, rawQuery string, headers []approvals.Header) error {
	if err := egress.CheckPath(path); err != nil {
		return err
	}
	if err := egress.CheckQuery(rawQuery); err != nil {
		return err
	}
	out := make([]egress.Header, 0, len(headers))
	names := make([]string, 0, len(headers))
	for _, h := range headers {
		out = append(out, egress.Header{Name: h.Name, Value: h.Value})
		names = append(names, h.Name)
	}
	// Which names an upstream takes is its own list, which the front has checked; egress
	// still refuses those that nobody may set.
	return egress.CheckHeaders(out, names...)
}

// run works until ctx ends, then drains: long polls are answered, requests finished, jobs
// in flight brought to their end, in that order and within the configured time.
func (s *service) run(ctx context.Context) error {
	defer s.close()
	listening, stopListening := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stopListening()
	go s.store.Listen(listening)
	background.Go(func() { s.config.watch(listening) })
	if s.slack != nil {
		background.Go(func() { s.slack.run(listening, s.cfg.workers) })
	}
	if s.cfg.workers {
		if err := s.runner.Start(ctx); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.cfg.listener) }()
	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
		cause = fmt.Errorf("serve HTTP: %w", cause)
	}
	return errors.Join(cause, s.drain(ctx))
}

func (s *service) drain(ctx context.Context) error {
	s.cfg.log.InfoContext(ctx, "stopping", slog.String("drain", s.cfg.policy.Server.Drain.String()))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.policy.Server.Drain)
	defer cancel()
	s.front.Drain()
	var errs []error
	if err := s.http.Shutdown(ctx); err != nil {
		errs = append(errs, fmt.Errorf("requests were cut off: %w", err))
	}
	if s.cfg.workers {
		if err := s.runner.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("jobs were cut off: %w", err))
		}
	}
	return errors.Join(errs...)
}

// listen opens the address, or says in one line what to do about it.
func listen(ctx context.Context, address, how string) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	if strings.Contains(err.Error(), "address already in use") {
		return nil, fmt.Errorf("%s is taken by another program: stop that one, or choose another address with %s", address, how)
	}
	return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
}
