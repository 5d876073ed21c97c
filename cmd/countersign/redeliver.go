package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"countersign/client"
)

type redeliverCmd struct {
	remoteFlags
	deliveryFlags
	ID string `arg:"" optional:"" help:"A delivery, msg_…, or a ticket, tkt_…, all of whose deliveries are meant."`
}

// Help is shown below the flags.
func (redeliverCmd) Help() string {
	return `Has callbacks sent once more: one, those of a ticket, or those of an endpoint. Of several, those that
were given up (exhausted) unless --state says otherwise.

  countersign redeliver msg_01jd8xk3r4f6v8w9y0z1a2b3c4
  countersign redeliver --endpoint end_5m1s9k2p3q4r --since 24h

` + remoteHelp
}

// Run has callbacks sent once more.
func (c redeliverCmd) Run(env environment) error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	if c.ID != "" && !strings.HasPrefix(c.ID, "tkt_") {
		return c.one(env, remote)
	}
	filter := c.filter(env)
	if c.ID != "" {
		filter.Ticket = c.ID
	}
	return c.all(env, remote, filter)
}

func (c redeliverCmd) check() error {
	several := c.Endpoint != "" || c.Ticket != "" || len(c.State) > 0 || c.Since > 0
	switch {
	case c.ID == "" && c.Endpoint == "" && c.Ticket == "":
		return errors.New("name a delivery or a ticket, or give --endpoint and --since")
	case c.ID != "" && !strings.HasPrefix(c.ID, "tkt_") && several:
		return errors.New("one delivery is meant, or several: --endpoint, --ticket, --state and --since are for several")
	case c.Endpoint != "" && c.Since <= 0:
		return errors.New("--endpoint needs --since, such as 24h")
	}
	return nil
}

func (c redeliverCmd) one(env environment, remote *client.Client) error {
	d, err := remote.Redeliver(env.ctx, c.ID)
	if err != nil {
		return coded(err)
	}
	if c.JSON {
		return printJSON(env, d.Raw)
	}
	_, err = fmt.Fprintf(env.stdout, "%s  %s, will be sent once more\n", safe(d.ID), safe(d.State))
	return err
}

func (c redeliverCmd) all(env environment, remote *client.Client, filter client.DeliveryFilter) error {
	got, err := remote.RedeliverAll(env.ctx, filter)
	if err != nil {
		return coded(err)
	}
	if c.JSON {
		return printJSON(env, got.Raw)
	}
	lines := plural(got.Count, "delivery", "deliveries") + " will be sent once more\n"
	for _, p := range got.Problems {
		lines += safe(p.ID) + "  not sent again: " + safe(withReason(string(p.Code), p.Detail)) + "\n"
	}
	if got.Count == 0 && len(got.Problems) == 0 && len(filter.States) == 0 {
		lines += "Nothing of it was given up. What was delivered is sent once more with --state delivered.\n"
	}
	if !got.Complete {
		lines += "There may be more: run the command again.\n"
	}
	_, err = io.WriteString(env.stdout, lines)
	return err
}
