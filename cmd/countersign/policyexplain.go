package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/policy"
)

type policyExplainCmd struct {
	policyFlags
	Caller     string   `help:"Caller that would submit the call." required:"" placeholder:"NAME"`
	OnBehalfOf string   `help:"Person it would act for: name, e-mail address or Slack id." placeholder:"PERSON"`
	At         string   `help:"When it would be submitted, as in RFC 3339; without it now." placeholder:"TIME"`
	Header     []string `help:"Header field of the call, as name:value; may be given again." placeholder:"K:V" sep:"none"`
	Data       string   `help:"Body of the call: text, or @FILE." placeholder:"TEXT"`
	JSON       bool     `help:"Print one JSON object."`
	Method     string   `arg:"" help:"HTTP method."`
	Upstream   string   `arg:"" help:"Name of the upstream."`
	Path       string   `arg:"" help:"Path below its base URL, with ?QUERY."`
}

// Help is shown below the flags.
func (policyExplainCmd) Help() string {
	return `Nothing is submitted and no secret is read.

  countersign policy explain --config countersign.yaml --caller payroll-bot \
    DELETE billing '/customers/42?hard=true'`
}

// maxData bounds --data, in bytes.
const maxData = approvals.MaxBody

// Run explains one call.
func (c policyExplainCmd) Run(env environment) error {
	config, err := c.load(env)
	if err != nil {
		return err
	}
	q, err := c.question(env, config)
	if err != nil {
		return usageError{err}
	}
	e := config.Explain(q.caller, q.person, q.call, q.at)
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(e)
	}
	_, err = io.WriteString(env.stdout, explanation{painter(env), config, q, e}.text())
	return err
}

// question is what is asked of the policy.
type question struct {
	caller policy.Caller
	person string // it acts for, "" for nobody
	call   approvals.Call
	at     time.Time
}

// question checks the command line. Every mistake in it is reported.
func (c policyExplainCmd) question(env environment, config *policy.Config) (question, error) {
	q := question{at: env.now().UTC()}
	var errs []error
	var known bool
	if q.caller, known = config.Caller(c.Caller); !known {
		errs = append(errs, fmt.Errorf("--caller: there is no caller %q; there are %s", c.Caller, callerNames(config)))
	}
	if q.person, known = personNamed(config, c.OnBehalfOf); !known {
		errs = append(errs, fmt.Errorf("--on-behalf-of: there is no person %q", c.OnBehalfOf))
	}
	if c.At != "" {
		at, err := time.Parse(time.RFC3339, c.At)
		if err != nil {
			errs = append(errs, fmt.Errorf("--at: %q is no time as in RFC 3339, such as 2026-11-23T12:00:00Z", c.At))
		}
		q.at = at.UTC()
	}
	call, err := c.call(config)
	q.call = call
	return q, errors.Join(append(errs, err)...)
}

func (c policyExplainCmd) call(config *policy.Config) (approvals.Call, error) {
	path, query, _ := strings.Cut(c.Path, "?")
	call := approvals.Call{Upstream: c.Upstream, Method: strings.ToUpper(c.Method), Path: path, Query: query}
	var errs []error
	if !slices.Contains(policy.Methods(), call.Method) {
		errs = append(errs, fmt.Errorf("there is no method %q; there are %s", c.Method, strings.Join(policy.Methods(), ", ")))
	}
	if _, known := config.Upstream(c.Upstream); !known {
		errs = append(errs, fmt.Errorf("there is no upstream %q; there are %s", c.Upstream, upstreamNames(config)))
	}
	if !strings.HasPrefix(path, "/") {
		errs = append(errs, fmt.Errorf("the path %q must begin with a slash", path))
	}
	headers, err := headerFields(c.Header)
	errs = append(errs, err)
	call.Headers = headers
	if call.Body, err = bodyOf(c.Data); err != nil {
		errs = append(errs, err)
	}
	if json.Valid(call.Body) && !slices.ContainsFunc(headers, func(h approvals.Header) bool { return h.Name == "Content-Type" }) {
		call.Headers = append(call.Headers, approvals.Header{Name: "Content-Type", Value: "application/json"}) // as the API does
	}
	return call, errors.Join(errs...)
}

func headerFields(given []string) (out []approvals.Header, err error) {
	for _, h := range given {
		name, value, found := strings.Cut(h, ":")
		if !found || strings.TrimSpace(name) == "" {
			err = errors.Join(err, fmt.Errorf("--header: %q is not name:value", h))
			continue
		}
		out = append(out, approvals.Header{Name: textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), Value: strings.TrimSpace(value)})
	}
	return out, err
}

// bodyOf takes text as it is, and what follows an @ as the name of a file.
func bodyOf(data string) ([]byte, error) {
	name, isFile := strings.CutPrefix(data, "@")
	if !isFile {
		return []byte(data), nil
	}
	f, err := os.Open(name) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	body, err := io.ReadAll(io.LimitReader(f, maxData+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--data: %w", err)
	case len(body) > maxData:
		return nil, fmt.Errorf("--data: %s is larger than %d bytes", name, maxData)
	}
	return body, nil
}

// personNamed finds a person as the API does, and nobody for nobody.
func personNamed(config *policy.Config, who string) (string, bool) {
	for _, p := range config.People {
		if who != "" && (strings.EqualFold(p.Name, who) || strings.EqualFold(p.Email, who) || strings.EqualFold(p.Slack, who)) {
			return p.Name, true
		}
	}
	return "", who == ""
}

func callerNames(config *policy.Config) string {
	var out []string
	for _, c := range config.Callers {
		out = append(out, c.Name)
	}
	return someOf(out)
}

func upstreamNames(config *policy.Config) string {
	var out []string
	for _, u := range config.Upstreams {
		out = append(out, u.Name)
	}
	return someOf(out)
}

// someOf lists names, not too many.
func someOf(names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}
