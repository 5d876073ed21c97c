package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/approvals"
	"countersign/policy"
)

type policyCmd struct {
	Test     policyTestCmd     `cmd:"" help:"Run fixture files: calls, and what the policy is expected to say of each. For CI."`
	Explain  policyExplainCmd  `cmd:"" help:"Say which rule a call meets and why, what it demands, and who could approve it."`
	Backtest policyBacktestCmd `cmd:"" help:"Replay the recorded calls of a database against a candidate policy."`
}

// policyFlags are shared by the commands that judge a policy in force.
type policyFlags struct {
	Config string `help:"Configuration file, or a directory of them (or $COUNTERSIGN_CONFIG)." placeholder:"FILE"`
}

// load reads the configuration without its secrets: none is needed to judge a policy.
func (f policyFlags) load(env environment) (*policy.Config, error) {
	path := cmp.Or(f.Config, env.getenv("COUNTERSIGN_CONFIG"))
	if path == "" {
		return nil, usageError{errors.New("give --config FILE, or set COUNTERSIGN_CONFIG")}
	}
	return loadPolicy(path)
}

// loadPolicy calls whatever is wrong with a configuration a mistake in the command line: a
// script must be able to tell it from a policy that says something else than expected.
func loadPolicy(path string) (*policy.Config, error) {
	config, err := policy.LoadUnresolved(path)
	if err != nil {
		return nil, usageError{err}
	}
	return config, nil
}

// paint marks text on a terminal, and leaves it as it is elsewhere.
type paint bool

// painter looks whether there is somebody to see colours.
func painter(env environment) paint {
	file, ok := env.stdout.(*os.File)
	return paint(ok && isTerminal(file) && env.getenv("NO_COLOR") == "" && env.getenv("TERM") != "dumb")
}

func (p paint) with(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string  { return p.with("1", text) }
func (p paint) dim(text string) string   { return p.with("2", text) }
func (p paint) good(text string) string  { return p.with("32", text) }
func (p paint) bad(text string) string   { return p.with("1;31", text) }
func (p paint) alert(text string) string { return p.with("1;33", text) }

// columns lines up the cells of rows. The last column is not padded. Style, which may be
// nil, marks a cell once it is padded.
func columns(indent string, rows [][]string, style func(row, column int, text string) string) string {
	widths := make(map[int]int)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for r, row := range rows {
		line := indent
		for i, cell := range row {
			pad := ""
			if i < len(row)-1 {
				pad = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			if style != nil {
				cell = style(r, i, cell)
			}
			line += cell + pad
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// span writes a duration as the configuration does.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// ruleName names the rule of a plan, and says so when there is none.
func ruleName(name string) string {
	if name == "" {
		return "no rule"
	}
	return name
}

// setsInWords says what approver sets ask for.
func setsInWords(sets []approvals.ApproverSet) string {
	var out []string
	for _, s := range sets {
		out = append(out, plural(s.Approvals, "approval", "approvals")+" from "+strings.Join(s.From, " or "))
	}
	return strings.Join(out, ", and ")
}
