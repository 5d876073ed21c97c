package main

import (
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/egress"
	"countersign/jobs"
	"countersign/policy"
)

func (s *service) newRunner(outbox *jobs.Outbox, current func() *policy.Config, pool *pgxpool.Pool) (*jobs.Runner, error) {
	c := s.cfg
	executor, err := egress.NewExecutor(egress.ExecutorConfig{Version: version, Now: c.now})
	if err != nil {
		return nil, err
	}
	deliverer, err := egress.NewDeliverer(egress.DelivererConfig{
		Policy: callbackPolicy(c.policy), Version: version, DocumentationURL: documentation(c.policy.Server), Now: c.now,
	})
	if err != nil {
		return nil, err
	}
	config := jobs.Config{
		Pool: pool, Store: s.store, Outbox: outbox, Policy: current, Executor: executor, Deliverer: deliverer, Now: c.now, Logger: c.log,
	}
	if s.slack != nil {
		config.Notifier, config.Fresh = s.slack.planner, s.slack.freshFor
	}
	return jobs.New(config)
}

// documentation is where a receiver finds out who has called it; empty where nobody could know.
func documentation(s policy.Server) string {
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.JoinPath("openapi.yaml").String() // in ASCII
}
