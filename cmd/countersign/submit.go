package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"countersign/client"
)

type submitCmd struct {
	remoteFlags
	waitFlags
	Why            string   `help:"Justification, which the approvers read." placeholder:"TEXT" short:"m" aliases:"reason"`
	Data           string   `help:"Body of the call: text, @FILE, or - for standard input." placeholder:"TEXT" short:"d"`
	Header         []string `help:"Header field of the call, as name:value; may be given again." placeholder:"K:V" short:"H" sep:"none"`
	Query          []string `help:"Query parameter, as name=value; may be given again." placeholder:"K=V" sep:"none"`
	Metadata       []string `help:"Metadata that comes back with the ticket, as name=value; may be given again." placeholder:"K=V" sep:"none"`
	Callback       string   `help:"Where the result is posted." placeholder:"URL"`
	CallbackEvent  []string `help:"Event to be posted besides the final ones; may be given again." placeholder:"TYPE"`
	OnBehalfOf     string   `help:"Person the call is for, who then cannot approve it." placeholder:"PERSON"`
	NotBefore      string   `help:"When the call may be made at the earliest, as in RFC 3339." placeholder:"TIME"`
	Supersedes     string   `help:"Earlier ticket whose place this one takes." placeholder:"ID"`
	IdempotencyKey string   `help:"Key that makes repeating the command safe; without it one is made up for this run." placeholder:"KEY"`
	Wait           bool     `help:"Wait for the end and print the upstream's answer." short:"w"`
	Upstream       string   `arg:"" help:"Name of the upstream."`
	Method         string   `arg:"" help:"HTTP method."`
	Path           string   `arg:"" help:"Path below its base URL, with ?QUERY."`
}

// Help is shown below the flags.
func (submitCmd) Help() string {
	return `Hands in a call and prints its ticket, much as curl would make the call itself:

  countersign submit billing DELETE /customers/42 --why "erasure, case 991"
  countersign submit billing POST /refunds -d '{"amount":1200}' --wait > answer.json

With --wait the upstream's body goes to standard output, and what happens meanwhile to standard error.

` + remoteHelp
}

// Run submits one call.
func (c submitCmd) Run(env environment) error {
	call, err := c.call(env)
	if err != nil {
		return usageError{err}
	}
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	t, err := remote.Submit(env.ctx, call)
	if err != nil {
		return coded(err)
	}
	if c.Wait {
		return c.follow(env, remote, follower{id: t.ID, json: c.JSON, lines: env.stderr, body: !c.JSON})
	}
	if c.JSON {
		err = printJSON(env, t.Raw)
	} else {
		err = submitted(env, t)
	}
	if err != nil || !t.Done {
		return err
	}
	return coded(t.Err())
}

// submitted says what became of a submit.
func submitted(env environment, t client.Ticket) error {
	p := painter(env)
	lines := p.bold(t.ID) + "  " + p.state(t.State) + "\n" + safe(t.Target()) + "\n"
	if len(t.WaitingFor) > 0 {
		lines += "waits for " + safe(strings.Join(t.WaitingFor, ", ")) + "\n"
	}
	if !t.Done {
		lines += "\nFollow it with:  countersign wait " + t.ID + "\n"
	}
	_, err := io.WriteString(env.stdout, lines)
	return err
}

// call puts the call together. Every mistake is reported.
func (c submitCmd) call(env environment) (client.Call, error) {
	path, rawQuery, _ := strings.Cut(c.Path, "?")
	call := client.Call{
		Upstream: c.Upstream, Method: strings.ToUpper(c.Method), Path: path, Justification: c.Why, OnBehalfOf: c.OnBehalfOf,
		CallbackURL: c.Callback, CallbackEvents: c.CallbackEvent, Supersedes: c.Supersedes, IdempotencyKey: c.IdempotencyKey,
	}
	var errs []error
	var err error
	if call.Query, err = url.ParseQuery(rawQuery); err != nil {
		errs = append(errs, fmt.Errorf("the query of the path: %w", err))
	}
	for _, pair := range c.Query {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" {
			errs = append(errs, fmt.Errorf("--query: %q is not name=value", pair))
			continue
		}
		call.Query.Add(name, value)
	}
	if call.Metadata, err = pairs("--metadata", c.Metadata); err != nil {
		errs = append(errs, err)
	}
	if call.Header, err = fields(c.Header); err != nil {
		errs = append(errs, err)
	}
	if c.NotBefore != "" {
		if call.NotBefore, err = time.Parse(time.RFC3339, c.NotBefore); err != nil {
			errs = append(errs, fmt.Errorf("--not-before: %q is no time as in RFC 3339, such as 2026-11-23T12:00:00Z", c.NotBefore))
		}
	}
	if c.CallbackEvent != nil && c.Callback == "" {
		errs = append(errs, errors.New("--callback-event needs --callback"))
	}
	if call.Body, err = c.body(env); err != nil {
		errs = append(errs, err)
	}
	return call, errors.Join(errs...)
}

// body is text, a file, or standard input.
func (c submitCmd) body(env environment) ([]byte, error) {
	if c.Data != "-" && c.Data != "@-" {
		return bodyOf(c.Data)
	}
	body, err := io.ReadAll(io.LimitReader(env.stdin, maxData+1))
	if err == nil && len(body) > maxData {
		err = fmt.Errorf("standard input is larger than %d bytes", maxData)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return body, nil
}

func pairs(flag string, given []string) (map[string]string, error) {
	out := make(map[string]string, len(given))
	for _, pair := range given {
		name, value, found := strings.Cut(pair, "=")
		if _, again := out[name]; !found || name == "" || again {
			return nil, fmt.Errorf("%s: %q is not name=value, or its name was given before", flag, pair)
		}
		out[name] = value
	}
	return out, nil
}

func fields(given []string) (map[string]string, error) {
	headers, err := headerFields(given)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(headers))
	for _, h := range headers {
		if _, again := out[h.Name]; again {
			return nil, fmt.Errorf("--header: %s is given more than once", h.Name)
		}
		out[h.Name] = h.Value
	}
	return out, nil
}
