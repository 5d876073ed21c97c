package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"countersign/client"
)

type ticketsCmd struct {
	remoteFlags
	State  []string      `help:"Only tickets in this state; may be given again, or several separated by commas." placeholder:"STATE"`
	Mine   bool          `help:"Only tickets that wait for your decision. For people."`
	Caller string        `help:"Only tickets of this caller." placeholder:"NAME"`
	Since  time.Duration `help:"Only tickets submitted since, such as 24h." placeholder:"TIME"`
	Limit  int           `help:"Up to how many; 50 unless given." placeholder:"N"`
	Result bool          `help:"Print the upstream's body of the ticket, and nothing else."`
	ID     string        `arg:"" optional:"" help:"One ticket, in full; without it a list, newest first."`
}

// Help is shown below the flags.
func (ticketsCmd) Help() string {
	return `Tickets that the key may see, newest first, or one of them in full:

  countersign tickets --mine
  countersign tickets --state pending,needs_info --json
  countersign tickets tkt_01jd8xk3r4f6v8w9y0z1a2b3c4

` + remoteHelp
}

const (
	defaultTickets = 50
	mostTickets    = 100_000
)

// Run lists tickets, or shows one.
func (c ticketsCmd) Run(env environment) error {
	if c.Limit < 0 || c.Limit > mostTickets {
		return usageError{fmt.Errorf("--limit must be between 1 and %d", mostTickets)}
	}
	if c.Result && c.ID == "" {
		return usageError{fmt.Errorf("--result needs the id of a ticket")}
	}
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	switch {
	case c.Result:
		result, err := remote.Result(env.ctx, c.ID)
		if err != nil {
			return coded(err)
		}
		_, err = env.stdout.Write(result.Body)
		return err
	case c.ID != "":
		return c.one(env, remote)
	}
	return c.list(env, remote)
}

func (c ticketsCmd) one(env environment, remote *client.Client) error {
	t, err := remote.Ticket(env.ctx, c.ID)
	if err != nil {
		return coded(err)
	}
	if c.JSON {
		return printJSON(env, t.Raw)
	}
	_, err = io.WriteString(env.stdout, ticketSheet(painter(env), t))
	return err
}

func (c ticketsCmd) list(env environment, remote *client.Client) error {
	filter := client.Filter{Caller: c.Caller, Mine: c.Mine}
	for _, s := range c.State {
		filter.States = append(filter.States, client.State(s))
	}
	if c.Since > 0 {
		filter.CreatedAfter = env.now().Add(-c.Since)
	}
	limit := cmp.Or(c.Limit, defaultTickets)
	filter.PageSize = min(limit, 200)
	p := painter(env)
	rows := [][]string{{"ID", "STATE", "AGE", "CALLER", "CALL", "WHY"}}
	var states []client.State
	for t, err := range remote.Tickets(env.ctx, filter) {
		if err != nil {
			return coded(err)
		}
		if c.JSON {
			if err := printJSON(env, t.Raw); err != nil {
				return err
			}
		} else {
			rows = append(rows, ticketRow(t, env.now()))
			states = append(states, t.State)
		}
		if limit--; limit == 0 {
			break
		}
	}
	if c.JSON {
		return nil
	}
	_, err := io.WriteString(env.stdout, columns("", rows, func(row, column int, text string) string {
		switch {
		case row == 0:
			return p.bold(text)
		case column == 1:
			return p.mark(states[row-1], text)
		}
		return text
	}))
	return err
}

// mark paints a text as a state is painted.
func (p paint) mark(s client.State, text string) string {
	return strings.Replace(text, safe(string(s)), p.state(s), 1)
}

func ticketRow(t client.Ticket, now time.Time) []string {
	return []string{
		safe(t.ID), safe(string(t.State)), age(now.Sub(t.CreatedAt)), brief(t.Caller, 24), brief(t.Target(), 60), brief(t.Justification, 50),
	}
}

// age is roughly how long something has been there.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d/time.Second), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	}
	return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
}

// ticketSheet is all that is known of a ticket.
func ticketSheet(p paint, t client.Ticket) string {
	rows := [][]string{{"Ticket", safe(t.ID)}, {"State", stateLine(t)}, {"Call", safe(t.Target())}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, safe(text)})
		}
	}
	by := t.Caller
	if t.OnBehalfOf != "" {
		by += ", for " + t.OnBehalfOf
	}
	add("By", by)
	add("Why", t.Justification)
	add("Rule", t.Rule)
	if s := t.Stage; s != nil {
		add("Stage", fmt.Sprintf("%s (%d of %d): %d of %d approvals", s.Name, s.Index, s.Of, s.Have, s.Needed))
	}
	add("Waits for", strings.Join(t.WaitingFor, ", "))
	for _, d := range t.Decisions {
		add("Decision", fmt.Sprintf("%s: %s at stage %d, %s", d.Person, withReason(d.Verdict, d.Comment), d.Stage, clockTime(d.At)))
	}
	if q := t.Question; q != nil {
		add("Question", q.Person+": "+q.Text)
		add("Answer", q.Answer)
	}
	if t.Stalled != nil {
		add("Stalled", t.Stalled.Reason)
	}
	if t.Error != nil {
		add("Error", withReason(t.Error.Code, t.Error.Detail))
	}
	add("Submitted", clockTime(t.CreatedAt))
	if !t.Done {
		add("Expires", clockTime(t.ExpiresAt))
	}
	for _, at := range []struct {
		name string
		at   *time.Time
	}{{"Not before", t.NotBefore}, {"Approved", t.ApprovedAt}, {"Sent", t.ExecutionStartedAt}, {"Ended", t.FinishedAt}} {
		if at.at != nil {
			add(at.name, clockTime(*at.at))
		}
	}
	if t.Callback.URL != "" {
		add("Callback", t.Callback.URL+" ("+t.Callback.State+")")
	}
	for _, name := range sortedNames(t.Metadata) {
		add("Metadata", name+"="+t.Metadata[name])
	}
	add("Supersedes", t.Supersedes)
	add("Superseded", t.SupersededBy)
	add("Fingerprint", t.Fingerprint)
	add("Digest", t.Digest)
	return labelled(p, rows)
}

func stateLine(t client.Ticket) string {
	out := safe(string(t.State))
	if t.CancelRequestedAt != nil && !t.Done {
		out += ", cancel requested"
	}
	return out
}

func clockTime(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05 MST") }

func sortedNames(m map[string]string) []string {
	var out []string
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
