package main

import (
	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/egress"
	"countersign/jobs"
	"countersign/policy"
	"countersign/slack"
)

func (s *service) newRunner(outbox *jobs.Outbox, current func() *policy.Config, client *slack.Client, pool *pgxpool.Pool) (*jobs.Runner, error) {
	c := s.cfg
	executor, err := egress.NewExecutor(egress.ExecutorConfig{Version: version, Now: c.now})
	if err != nil {
		return nil, err
	}
	deliverer, err := egress.NewDeliverer(egress.DelivererConfig{Policy: callbackPolicy(c.policy), Version: version, Now: c.now})
	if err != nil {
		return nil, err
	}
	return jobs.New(jobs.Config{
		Pool: pool, Store: s.store, Outbox: outbox, Policy: current, Executor: executor, Deliverer: deliverer,
		Slack: client, PublicURL: pageURL, Now: c.now, Logger: c.log,
	})
}
