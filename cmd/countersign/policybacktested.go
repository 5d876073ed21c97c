package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/policy"
)

// backtested is what the backtest command shows.
type backtested struct {
	paint

	cmd          policyBacktestCmd
	r            policy.BacktestReport
	since, until time.Time
}

func (x backtested) text() string {
	out := x.summary()
	if x.r.Calls == 0 {
		return out
	}
	for _, part := range []string{x.unjudged(), x.changes(), x.votes(), x.impossible(), x.approvals()} {
		if part != "" {
			out += "\n" + part
		}
	}
	if len(x.r.Unreached) > 0 {
		out += "\n" + x.bold("Rules that no call has met: ") + strings.Join(x.r.Unreached, ", ") + "\n"
	}
	return out
}

func (x backtested) summary() string {
	was := "what was demanded then"
	if x.cmd.Config != "" {
		was = x.cmd.Config
	}
	window := "from " + when(x.since) + " to " + when(x.until)
	if x.r.Calls == 0 {
		return "no call was recorded " + window + "\n"
	}
	out := plural(x.r.Calls, "call", "calls") + " " + window + ": " + x.cmd.Candidate + " against " + was + "\n"
	if x.cmd.Limit > 0 && x.r.Calls == x.cmd.Limit {
		out += "only the latest were replayed (--limit), back to " + when(x.r.Earliest) + "\n"
	}
	return out + fmt.Sprintf("%d the same, %d different\n", x.r.Same, x.r.Calls-x.r.Same)
}

// unjudged says of which groups only Slack knows who is in them.
func (x backtested) unjudged() string {
	if x.r.Unjudged == 0 {
		return ""
	}
	return x.alert("note: ") + "who is in a user group only Slack can say: " + strings.Join(x.r.Unknown, ", ") + "\n" +
		plural(x.r.Unjudged, "call", "calls") + " would ask them; who could approve those, and whether the same votes would be enough, is not judged\n"
}

// changes is the table of verdicts that change, what loosens first.
func (x backtested) changes() string {
	if len(x.r.Changes) == 0 {
		return ""
	}
	rows := [][]string{{"", "CALLS", "SENT", "BEFORE", "AFTER", "FOR EXAMPLE"}}
	for _, c := range x.r.Changes {
		for i, ticket := range c.Examples {
			row := []string{"", "", "", "", "", ticket}
			if i == 0 {
				row = []string{string(c.Direction), strconv.Itoa(c.Calls), strconv.Itoa(c.Sent), demandInWords(c.Before), demandInWords(c.After), ticket}
			}
			rows = append(rows, row)
		}
	}
	return columns("", rows, func(row, column int, text string) string {
		switch {
		case row == 0:
			return x.dim(text)
		case column == 0 && text == string(policy.Looser):
			return x.bad(text)
		case column == 0:
			return x.alert(text)
		}
		return text
	})
}

func demandInWords(d policy.Demand) string {
	out := string(d.Action)
	if d.Action == approvals.ActionApprove {
		out = "approve ×" + strconv.Itoa(d.Approvals)
	}
	return out + ", " + ruleName(d.Rule)
}

func (x backtested) votes() string {
	v := x.r.Votes
	if v.Approved == 0 {
		return ""
	}
	out := fmt.Sprintf("%s that people approved are asked about again: of %d the same votes would be enough",
		plural(v.Approved, "call", "calls"), v.Enough)
	if v.Enough < v.Approved {
		out += fmt.Sprintf(", of %d not (%s)", v.Approved-v.Enough, strings.Join(v.Examples, ", "))
	}
	return out + "\n"
}

func (x backtested) impossible() string {
	if len(x.r.Impossible) == 0 {
		return ""
	}
	out := x.bad("Calls that nobody could approve") + "\n"
	for _, one := range x.r.Impossible {
		out += "  " + plural(one.Calls, "call", "calls") + ": " + one.Problem + "\n"
		out += "    " + x.dim(strings.Join(one.Examples, ", ")) + "\n"
	}
	return out
}

func (x backtested) approvals() string {
	if len(x.r.Approvals) == 0 {
		return ""
	}
	rows := [][]string{{"APPROVALS", "AT LEAST", "AT MOST", "EVEN SHARE", "GAVE"}}
	for _, l := range x.r.Approvals {
		rows = append(rows, []string{
			l.Person, strconv.Itoa(l.AtLeast), strconv.Itoa(l.AtMost), strconv.FormatFloat(l.Share, 'f', 1, 64), strconv.Itoa(l.Gave),
		})
	}
	table := columns("", rows, func(row, _ int, text string) string {
		if row == 0 {
			return x.dim(text)
		}
		return text
	})
	return table + x.dim(`at least: nobody else could have given them, even after every escalation. at most: they could
have given them, as one of those asked first. even share: what comes to each if all who can
give an approval give as many. gave: what they gave to these calls.`) + "\n"
}
