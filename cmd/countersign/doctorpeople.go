package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"countersign/approvals"
	"countersign/policy"
	"countersign/slack"
)

var slackAccount = regexp.MustCompile(`^[UW][A-Z0-9]{1,31}$`)

// peopleEvery is how many people are asked about between two lines of progress.
const peopleEvery = 25

// examinePeople asks Slack about the accounts of everybody in the configuration, one by one.
func (x *slackExam) examinePeople(ctx context.Context) {
	fine, without := 0, 0
	for i, p := range x.config.People {
		if i%peopleEvery == 0 {
			x.progress(fmt.Sprintf("asking about people: %d of %d", i, len(x.config.People)))
		}
		if ctx.Err() != nil {
			x.fail(fmt.Sprintf("there was no time for %s of %d", plural(len(x.config.People)-i, "person", "people"), len(x.config.People)), "try again")
			return
		}
		var accounts []string
		for _, id := range append([]string{p.Slack}, p.Accounts...) {
			if slackAccount.MatchString(id) {
				accounts = append(accounts, id)
			}
		}
		switch {
		case len(accounts) > 0:
			bad := 0
			for _, id := range accounts {
				if !x.examineAccount(ctx, p, id) {
					bad++
				}
			}
			if bad == 0 {
				fine++
			}
		case x.config.Slack.MatchEmail && p.Email != "":
			if x.examineAddress(ctx, p) {
				fine++
			}
		default:
			without++
		}
	}
	if fine > 0 {
		x.ok(plural(fine, "person", "people") + " found, active, and of the workspace")
	}
	if without > 0 {
		x.ok(plural(without, "person has", "people have") + " no Slack account: they decide over the API only")
	}
}

// examineAccount says what is wrong with an account that the configuration names.
func (x *slackExam) examineAccount(ctx context.Context, p approvals.Person, id string) bool {
	what := fmt.Sprintf("%s (%s)", p.Name, id)
	var got slack.UserFacts
	err := x.ask(ctx, func() (err error) { got, err = x.client.UserInfo(ctx, id); return err })
	switch {
	case code(err) == "user_not_found":
		x.fail(what+" is not there", "correct the member id: profile, three dots, Copy member ID")
		return false
	case err != nil:
		x.fail(what+": "+err.Error(), remedy(err, "try again"))
		return false
	}
	return x.judgeAccount(what, x.keep(got))
}

// examineAddress says whether somebody can be known by their address.
func (x *slackExam) examineAddress(ctx context.Context, p approvals.Person) bool {
	what := fmt.Sprintf("%s (%s)", p.Name, p.Email)
	var got slack.UserFacts
	err := x.ask(ctx, func() (err error) { got, err = x.client.UserByEmail(ctx, p.Email); return err })
	_, domain, _ := strings.Cut(p.Email, "@")
	switch {
	case code(err) == "users_not_found":
		x.warn(what+": nobody in Slack has that address", "they cannot be asked in Slack; correct it, or give their member id as slack")
		return false
	case err != nil:
		x.fail(what+": "+err.Error(), remedy(err, "try again"))
		return false
	case !slices.Contains(x.config.Slack.EmailDomains, strings.ToLower(domain)):
		x.fail(what+" is not in slack.email_domains", "they are not matched by it; add the domain, or give their member id as slack")
		return false
	case !got.EmailConfirmed:
		x.fail(what+" is not confirmed in Slack", "they are not matched by it until they confirm it, or give their member id as slack")
		return false
	}
	return x.judgeAccount(fmt.Sprintf("%s, %s", what, got.ID), x.keep(got))
}

// judgeAccount says whether an account may act.
func (x *slackExam) judgeAccount(what string, u policy.SlackUser) bool {
	why := x.config.SlackRefusal(u)
	switch {
	case why == "":
		return true
	case u.Deleted:
		x.warn(what+": "+why, "they count as nobody; take them out of the configuration")
	default:
		x.fail(what+": "+why, "they count as nobody; give the id of a full member of the workspace")
	}
	return false
}

// keep remembers what Slack said of an account.
func (x *slackExam) keep(u slack.UserFacts) policy.SlackUser {
	out := policy.SlackUser{
		ID: u.ID, TeamID: u.TeamID, EnterpriseID: u.EnterpriseID, Teams: u.Teams, Name: u.Name, Email: u.Email, EmailConfirmed: u.EmailConfirmed,
		Deleted: u.Deleted, Bot: u.Bot, Guest: u.Guest, Stranger: u.Stranger, Invited: u.Invited, ReadAt: x.env.now(),
	}
	x.facts.Users[u.ID] = out
	return out
}

// examineQuorums says of every user group whom it stands for, and of every rule that asks
// one whether there are enough of them.
func (x *slackExam) examineQuorums() {
	with := x.config.With(x.facts)
	dir := with.Directory()
	for _, g := range with.Groups {
		facts, known := x.facts.Groups[g.SlackUsergroup]
		if g.SlackUsergroup == "" || !known || facts.Disabled || len(facts.Members) == 0 {
			continue
		}
		members := approvals.Names(dir.Members([]string{g.Name}))
		what := fmt.Sprintf("group %s (@%s): %s in Slack, of whom %d known here", g.Name, facts.Handle, plural(len(facts.Members), "person", "people"), len(members))
		if len(members) < len(facts.Members) {
			x.warn(what, "the others cannot decide: add them to people with their member id")
		} else {
			x.ok(what)
		}
	}
	for _, r := range with.Rules {
		for _, s := range r.Stages {
			x.examineStage(dir, r.Name, s)
		}
	}
}

func (x *slackExam) examineStage(dir approvals.Directory, rule string, s approvals.Stage) {
	sets := slices.Clone(s.Need)
	for _, t := range s.Escalate {
		sets = append(sets, t.Need...)
		if t.Mode == approvals.ModeReplace && len(t.To) > 0 {
			for _, set := range s.Need {
				sets = append(sets, approvals.ApproverSet{From: t.To, Approvals: set.Approvals})
			}
		}
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set.From, func(name string) bool { return dir.Live[name] != "" }) {
			continue // a list of people was counted when the configuration was read
		}
		if have := len(dir.Members(set.From)); have < set.Approvals {
			x.fail(fmt.Sprintf("rule %s, stage %s asks for %s from %s, where %d can give one",
				rule, s.Name, plural(set.Approvals, "approval", "approvals"), strings.Join(set.From, " or "), have),
				"its calls cannot be approved: put people into the group, or ask for fewer")
		}
	}
}
