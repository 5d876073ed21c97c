package interact

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/policy"
	"countersign/slack"
)

// who is whoever did something in Slack, judged by facts that are at most 30 s old.
type who struct {
	// config is the configuration with these facts, dir its people.
	config *policy.Config
	dir    approvals.Directory
	actor  approvals.Actor
	// refusal is why they may do nothing here at all, nil when they are a person who may; say
	// is what they are told of it, "" for what [slack.Refusal] has for its code.
	refusal *approvals.Error
	say     string
}

// askLate bounds asking Slack who somebody is when nobody waits for an answer any more.
const askLate = 10 * time.Second

// who asks who somebody is. Whoever Slack says nothing good of, the configuration does not
// know, or cannot be asked about, is refused; Slack is asked about all of them, because it is
// Slack that may know them by their address.
func (d *Desk) who(ctx context.Context, user slack.User, bound time.Duration, need FreshNeed) who {
	need.Users = append([]string{user.ID}, slices.DeleteFunc(need.Users, func(id string) bool { return id == user.ID })...)
	asking, stop := context.WithTimeout(ctx, bound)
	defer stop()
	config, err := d.c.Fresh(asking, need)
	if err != nil {
		d.c.Logger.WarnContext(ctx, "Slack could not be asked who somebody is", slog.String("user", user.ID), slog.Any("error", err))
		config = d.c.Policy()
	}
	w := who{config: config, dir: config.Directory()}
	w.identify(user)
	if err != nil {
		w.refusal = &approvals.Error{Code: approvals.CodeNotApprover, Message: "Slack could not be asked whether they may decide"}
		w.say = "Slack could not be asked whether you may decide; your click was not counted. Please try again."
	}
	return w
}

// identify says who a Slack user is.
func (w *who) identify(user slack.User) {
	w.actor = approvals.Actor{Kind: approvals.ActorStranger, Name: user.ID, Via: "slack", Ref: user.TeamID + "/" + user.ID}
	facts, known := w.config.SlackUser(user.ID)
	if !known {
		facts = policy.SlackUser{}
	}
	if why := w.config.SlackRefusal(facts); why != "" {
		w.refuse(why, "Your click was not counted, because "+why+".")
		return
	}
	if !atHome(w.config.Slack, user.TeamID, facts) {
		w.refuse("their workspace is not one that is configured", "")
		return
	}
	person, known := w.dir.BySlack(user.ID)
	if !known {
		w.refuse("they are not known to Countersign, so they cannot decide on this request", "")
		return
	}
	w.actor.Kind, w.actor.Name = approvals.ActorPerson, person.Name
}

func (w *who) refuse(message, say string) {
	w.refusal, w.say = &approvals.Error{Code: approvals.CodeNotApprover, Message: message}, say
}

// atHome reports whether somebody is at home where clicks are accepted from, by the request
// and by what Slack says of them: in a workspace of the configuration, or in one of those that
// an organisation of it consists of.
func atHome(c policy.Slack, team string, facts policy.SlackUser) bool {
	if slices.Contains(c.TeamIDs, team) {
		return true
	}
	theirs := team != "" && (team == facts.TeamID || team == facts.EnterpriseID || slices.Contains(facts.Teams, team))
	return theirs && slices.Contains(c.EnterpriseIDs, facts.EnterpriseID)
}

var accountID = regexp.MustCompile(`^[UW][A-Z0-9]{1,30}$`)

// needOf names the facts that decide on a ticket: those of who has decided on it, which are to
// count no longer than they may, and those of the user groups of its plan.
func needOf(t approvals.Ticket, dir approvals.Directory) FreshNeed {
	var need FreshNeed
	for _, d := range t.Decisions {
		for _, name := range []string{d.Person, d.For} {
			need.Users = append(need.Users, dir.People[name].Slack)
		}
		if _, user, ok := strings.Cut(d.Ref, "/"); ok && d.Via == "slack" {
			need.Users = append(need.Users, user)
		}
	}
	for _, id := range t.Plan.Live {
		need.Groups = append(need.Groups, id)
	}
	need.Users = slices.DeleteFunc(need.Users, func(id string) bool { return !accountID.MatchString(id) })
	slices.Sort(need.Users)
	slices.Sort(need.Groups)
	need.Users, need.Groups = slices.Compact(need.Users), slices.Compact(need.Groups)
	return need
}
