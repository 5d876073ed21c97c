package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"countersign/policy"
)

type doctorCmd struct {
	policyFlags
	DatabaseURL string   `help:"Postgres to look at, as the service logs in (or $DATABASE_URL, or database.url of the configuration)." placeholder:"URL"`
	Only        []string `help:"Look at this only: configuration, database, slack or upstreams. May be repeated." placeholder:"AREA" enum:"configuration,database,slack,upstreams"`
	JSON        bool     `help:"Print one JSON object a line."`
}

// Help is shown below the flags.
func (doctorCmd) Help() string {
	return `Reads the configuration with its secrets, as serve does, and asks the database and Slack whether
they are as the service needs them. It changes nothing and posts nothing, and calls no upstream:
their names are looked up. Each line says

  ok | warn | fail   where   what was found; what to do about it

The exit code is 1 if anything failed, 2 for a mistake in the command line, and otherwise 0.`
}

// doctorLimit bounds a whole examination. It is long: the facts of people are asked for one
// by one, as slowly as Slack demands.
const doctorLimit = 10 * time.Minute

// Run examines everything, or the areas asked for.
func (c doctorCmd) Run(env environment) error {
	path := cmp.Or(c.Config, env.getenv("COUNTERSIGN_CONFIG"))
	if path == "" {
		return usageError{errors.New("give --config FILE, or set COUNTERSIGN_CONFIG")}
	}
	ctx, cancel := context.WithTimeout(env.ctx, doctorLimit)
	defer cancel()
	d := &doctor{env: env, sheet: sheet{out: env.stdout, json: c.JSON, paint: painter(env)}}
	from := source{path: path, getenv: env.getenv}
	config, err := from.load()
	if err != nil {
		d.unreadable(err)
		return d.verdict()
	}
	d.config = config
	for _, area := range []struct {
		name    string
		examine func(context.Context)
	}{
		{"configuration", d.examineConfig},
		{"database", func(ctx context.Context) { d.examineDatabase(ctx, c.databaseURL(env, config)) }},
		{"slack", d.examineSlack},
		{"upstreams", d.examineUpstreams},
	} {
		if len(c.Only) == 0 || slices.Contains(c.Only, area.name) {
			d.area = area.name
			d.progress("looking at: " + area.name)
			area.examine(ctx)
		}
	}
	return d.verdict()
}

func (c doctorCmd) databaseURL(env environment, config *policy.Config) string {
	return cmp.Or(c.DatabaseURL, config.Database.URL.Reveal(), env.getenv("DATABASE_URL"))
}

// doctor examines what a configuration needs.
type doctor struct {
	env    environment
	config *policy.Config
	sheet
}

// progress says on stderr what takes its time.
func (d *doctor) progress(text string) { _, _ = fmt.Fprintln(d.env.stderr, text) }

func (d *doctor) unreadable(err error) {
	d.area = "configuration"
	var problems policy.Problems
	if !errors.As(err, &problems) {
		d.fail(err.Error(), "")
		return
	}
	for line := range strings.SplitSeq(strings.TrimSpace(problems.Error()), "\n") {
		d.fail(line, "")
	}
}

// findingLevel says how bad a finding is.
type findingLevel string

const (
	levelOK   findingLevel = "ok"
	levelWarn findingLevel = "warn"
	levelFail findingLevel = "fail"
)

// finding is one thing that was looked at.
type finding struct {
	Level findingLevel `json:"level"`
	Area  string       `json:"area"`
	What  string       `json:"what"`
	Do    string       `json:"do,omitempty"`
}

// sheet takes findings and prints each as it comes.
type sheet struct {
	out    io.Writer
	json   bool
	paint  paint
	area   string
	counts map[findingLevel]int
}

func (s *sheet) ok(what string)       { s.add(levelOK, what, "") }
func (s *sheet) warn(what, do string) { s.add(levelWarn, what, do) }
func (s *sheet) fail(what, do string) { s.add(levelFail, what, do) }

func (s *sheet) add(level findingLevel, what, do string) {
	if s.counts == nil {
		s.counts = map[findingLevel]int{}
	}
	s.counts[level]++
	f := finding{level, s.area, what, do}
	if s.json {
		_ = json.NewEncoder(s.out).Encode(f) // whoever reads has gone: nobody to tell
		return
	}
	if do != "" {
		what += "; " + do
	}
	mark := map[findingLevel]func(string) string{levelOK: s.paint.good, levelWarn: s.paint.alert, levelFail: s.paint.bad}[level]
	_, _ = fmt.Fprintf(s.out, "%s  %-13s  %s\n", mark(fmt.Sprintf("%-4s", level)), s.area, what)
}

// errUnwell ends with the exit code of a failure. What failed has been printed.
var errUnwell = errors.New("not everything is in order")

// verdict says whether anything has failed.
func (s *sheet) verdict() error {
	if n := s.counts[levelFail]; n > 0 {
		return fmt.Errorf("%w: %s, %s", errUnwell, plural(n, "failure", "failures"), plural(s.counts[levelWarn], "warning", "warnings"))
	}
	return nil
}

// skewed says what a clock that differs from ours by that much means. whose is "the
// database's", harm what goes wrong.
func (d *doctor) skewed(whose string, by time.Duration, harm string) {
	const warnAbove, failAbove = 30 * time.Second, 120 * time.Second
	text := fmt.Sprintf("%s clock and ours are %s apart", whose, by.Abs().Round(time.Second))
	switch do := "set this machine's clock (NTP): " + harm; {
	case by.Abs() > failAbove:
		d.fail(text, do)
	case by.Abs() > warnAbove:
		d.warn(text, do)
	default:
		d.ok(text)
	}
}
