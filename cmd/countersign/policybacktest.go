package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"countersign/db"
	"countersign/policy"
)

type policyBacktestCmd struct {
	Since     string `help:"From when on: a time, a date, or how long ago (12h, 7d); without it 30d." default:"30d" placeholder:"TIME"`
	Until     string `help:"Until when, likewise; without it until now." placeholder:"TIME"`
	Config    string `help:"Compare with this configuration, a file or a directory; without it with what was demanded of each call at the time." placeholder:"CURRENT"`
	Database  string `help:"Postgres with the recorded calls (or $DATABASE_URL)." placeholder:"URL"`
	Limit     int    `help:"Replay only the latest N calls; 0, the default, means all." placeholder:"N"`
	JSON      bool   `help:"Print one JSON object."`
	Candidate string `arg:"" name:"new.yaml" help:"Candidate configuration: a file or a directory."`
}

// Help is shown below the flags.
func (policyBacktestCmd) Help() string {
	return `Asks the candidate about every recorded call, as of the time when it was submitted, and says
which verdicts change, how many approvals it would ask of each person, which calls nobody
could approve, and which of its rules no call has met. People, groups and callers are those of
the candidate. The database is only read, as of one moment, and no secret of the
configurations is.

  countersign policy backtest --since 30d candidate.yaml`
}

// errEnough ends the reading at --limit.
var errEnough = errors.New("enough")

// Run replays the calls.
func (c policyBacktestCmd) Run(env environment) error {
	since, until, err := c.window(env.now())
	if err != nil {
		return usageError{err}
	}
	url := cmp.Or(c.Database, env.getenv("DATABASE_URL"))
	if url == "" {
		return usageError{errors.New("give --database URL, or set DATABASE_URL")}
	}
	test, err := c.backtest()
	if err != nil {
		return err
	}
	pool, err := db.Open(env.ctx, db.PoolConfig{URL: url, MaxConns: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer pool.Close()
	progress := newProgress(env.stderr, c.Limit)
	err = db.RecordedCalls(env.ctx, pool, since, until, func(r db.RecordedCall) error {
		test.Add(policy.Recorded(r))
		return progress.step()
	})
	progress.end()
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return c.print(env, test.Report(), since, until)
}

func (c policyBacktestCmd) backtest() (*policy.Backtest, error) {
	candidate, err := loadPolicy(c.Candidate)
	if err != nil {
		return nil, err
	}
	config := policy.BacktestConfig{Candidate: candidate}
	if c.Config != "" {
		if config.Current, err = loadPolicy(c.Config); err != nil {
			return nil, err
		}
	}
	return policy.NewBacktest(config), nil
}

func (c policyBacktestCmd) window(now time.Time) (since, until time.Time, err error) {
	since, err = moment("--since", c.Since, now)
	until = now
	if c.Until != "" {
		var wrong error
		until, wrong = moment("--until", c.Until, now)
		err = errors.Join(err, wrong)
	}
	switch {
	case err != nil:
	case c.Limit < 0:
		err = errors.New("--limit must not be negative")
	case !since.Before(until):
		err = fmt.Errorf("--since %s is not before --until %s", when(since), when(until))
	}
	return since, until, err
}

// moment reads a time, the beginning of a day in UTC, or how long ago.
func moment(flag, text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.UTC().Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.UTC().Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("%s: %q is neither a time, nor a date, nor how long ago, such as 30d or 12h", flag, text)
}

// progress tells somebody who waits how far it is.
type progress struct {
	w        io.Writer
	terminal bool
	n, limit int
}

const progressEvery = 10_000

func newProgress(w io.Writer, limit int) *progress {
	file, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && isTerminal(file), limit: limit}
}

func (p *progress) step() error {
	p.n++
	switch {
	case p.terminal && p.n%(progressEvery/100) == 0:
		_, _ = fmt.Fprintf(p.w, "\r%d calls replayed", p.n)
	case !p.terminal && p.n%progressEvery == 0:
		_, _ = fmt.Fprintf(p.w, "%d calls replayed\n", p.n)
	}
	if p.n == p.limit {
		return errEnough
	}
	return nil
}

// end leaves the line to what comes next.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// backtestReport is what --json prints.
type backtestReport struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	policy.BacktestReport
}

func (c policyBacktestCmd) print(env environment, r policy.BacktestReport, since, until time.Time) error {
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(backtestReport{Since: since, Until: until, BacktestReport: r})
	}
	_, err := io.WriteString(env.stdout, backtested{paint: painter(env), cmd: c, r: r, since: since, until: until}.text())
	return err
}
