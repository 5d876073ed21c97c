package interact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

// commandLinks bounds asking Slack for the links of an answer to a command, for which
// somebody waits.
const commandLinks = 500 * time.Millisecond

// The words for what came of a command.
const (
	outcomeListed  = "listed"
	outcomeTold    = "told"
	outcomeRefused = "refused"
)

const (
	noSuchTicket = "There is no such ticket."
	notAsked     = "Slack could not be asked who you are, so nothing is shown. Please try again in a moment."
	elsewhere    = "This command belongs to a Countersign of another workspace, so nothing is shown."
	linkTerms    = " A one-time link by which you tie your Slack account to yourself, under your company's login, " +
		"comes with Countersign's web console. Until then the configuration says who is who."
)

// command answers /approvals, to the one who typed it and to nobody else. An error means that
// it could not be answered yet.
func (d *Desk) command(ctx context.Context, c slack.Command) (m slack.Message, outcome string, err error) {
	if !d.ours(c.AppID, c.TeamID, c.EnterpriseID) {
		d.c.Logger.WarnContext(ctx, "a command from another workspace or app", slog.String("team", c.TeamID),
			slog.String("app", c.AppID), slog.String("user", c.User.ID))
		return slack.Saying(elsewhere), outcomeRefused, nil
	}
	words := strings.Fields(c.Text)
	verb := ""
	if len(words) > 0 {
		verb = strings.ToLower(words[0])
	}
	if verb == "help" {
		return slack.Help(), outcomeTold, nil
	}
	config, err := d.c.Fresh(ctx, FreshNeed{Users: []string{c.User.ID}})
	if err != nil {
		d.c.Logger.WarnContext(ctx, "a command was refused: Slack cannot be asked", slog.Any("error", err))
		return slack.Saying(notAsked), outcomeRefused, nil
	}
	v, refusal := d.visit(config, c.TeamID, c.User.ID)
	switch {
	case verb == "link":
		return slack.Saying(d.link(v, c, refusal)), outcomeTold, nil
	case refusal != "":
		return slack.Saying(refusal), outcomeRefused, nil
	case len(words) == 0:
		return d.list(ctx, v, "Waiting for you", noteForApprover, func() ([]approvals.Ticket, error) { return d.waiting(ctx, v) })
	case verb == "mine" && len(words) == 1:
		return d.list(ctx, v, "Your requests", noteForRequester, func() ([]approvals.Ticket, error) {
			return d.requests(ctx, v, slack.MaxListing+1) // one more, to know that there are more
		})
	case verb == "show" && len(words) == 2:
		return d.showTicket(ctx, v, words[1])
	}
	return slack.Help(), outcomeTold, nil
}

// ours reports whether something comes from our app in a workspace or organisation that is
// configured.
func (d *Desk) ours(app, team, enterprise string) bool {
	s := d.c.Policy().Slack
	known := (team != "" && slices.Contains(s.TeamIDs, team)) || (enterprise != "" && slices.Contains(s.EnterpriseIDs, enterprise))
	return app != "" && app == s.AppID && known
}

// link says how a Slack account is tied to a person.
func (d *Desk) link(v visitor, c slack.Command, refusal string) string {
	if refusal != "" {
		return refusal + linkTerms
	}
	return fmt.Sprintf("Your Slack account %s (workspace %s) stands for %s.", c.User.ID, c.TeamID, v.person.Name) + linkTerms
}

func (d *Desk) list(ctx context.Context, v visitor, title string, note func(approvals.Ticket) string,
	read func() ([]approvals.Ticket, error),
) (slack.Message, string, error) {
	tickets, err := read()
	if err != nil {
		return slack.Message{}, "", err
	}
	items, err := d.items(ctx, v, tickets[:min(len(tickets), slack.MaxListing)], commandLinks, note)
	if err != nil {
		return slack.Message{}, "", err
	}
	items = append(items, make([]slack.HomeItem, len(tickets)-len(items))...) // they are counted only
	return slack.Listing(title, items, v.now), outcomeListed, nil
}

// showTicket shows a ticket to somebody who has to do with it. For everybody else there is none.
func (d *Desk) showTicket(ctx context.Context, v visitor, id string) (slack.Message, string, error) {
	if !approvals.ValidTicketID(id) {
		return slack.Saying(noSuchTicket), outcomeTold, nil
	}
	t, err := d.c.Store.Ticket(ctx, db.Ref{ID: id})
	var refusal *approvals.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == approvals.CodeNotFound:
		return slack.Saying(noSuchTicket), outcomeTold, nil
	case err != nil:
		return slack.Message{}, "", err
	case !concerns(v.config, v.dir, t, v.person.Name):
		return slack.Saying(noSuchTicket), outcomeRefused, nil
	}
	return d.list(ctx, v, "Ticket", noteForAnybody(v.person.Name), func() ([]approvals.Ticket, error) { return []approvals.Ticket{t}, nil })
}

func noteForAnybody(person string) func(approvals.Ticket) string {
	return func(t approvals.Ticket) string {
		if t.Question != nil && t.Question.Person == person {
			return noteForAsker(t)
		}
		return noteForRequester(t)
	}
}

// concerns reports whether a person has to do with a ticket: is asked in one of its stages or
// may bypass them, has decided or asked, answers for the call, or resolves what is in doubt.
func concerns(config *policy.Config, dir approvals.Directory, t approvals.Ticket, person string) bool {
	if config.Operator(person) || t.MayAnswer(person, dir) || slices.Contains(t.WaitingFor(dir), person) {
		return true
	}
	if t.Question != nil && t.Question.Person == person {
		return true
	}
	if slices.ContainsFunc(t.Decisions, func(d approvals.Decision) bool { return d.Person == person || d.For == person }) {
		return true
	}
	return t.Directory(dir).Members(asked(t))[person]
}

// asked lists the names that the plan of a ticket has asked so far: of all its stages, of the
// tiers that have fired, and of those who may break the glass.
func asked(t approvals.Ticket) (names []string) {
	for i, s := range t.Plan.Stages {
		sets := slices.Clone(s.Need)
		for n, tier := range s.Escalate {
			if i < len(t.Tiers) && n < t.Tiers[i] {
				names = append(names, tier.To...)
				sets = append(sets, tier.Need...)
			}
		}
		for _, set := range sets {
			names = append(names, set.From...)
		}
	}
	if t.Plan.BreakGlass != nil {
		names = append(names, t.Plan.BreakGlass.From...)
	}
	return names
}
