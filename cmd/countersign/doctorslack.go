package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"countersign/egress"
	"countersign/policy"
	"countersign/slack"
)

// examineSlack asks Slack whether everything is there that the configuration relies on.
func (d *doctor) examineSlack(ctx context.Context) {
	if !d.config.Slack.Configured() {
		d.warn("there is no slack section", "nobody will be asked")
		return
	}
	d.examineDoor()
	s := d.config.Slack
	client, err := slack.New(slack.Config{
		Token: slack.Secret(s.BotToken.Reveal()), APIURL: s.APIURL, ResponseHosts: s.ResponseHosts,
		HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: onLoopback(s.APIURL)}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		d.fail(err.Error(), "correct the slack section")
		return
	}
	x := &slackExam{doctor: d, client: client, facts: policy.Facts{Users: map[string]policy.SlackUser{}, Groups: map[string]policy.SlackGroup{}}}
	if !x.examineIdentity(ctx) {
		return
	}
	x.examineChannels(ctx)
	x.examineGroups(ctx)
	x.examinePeople(ctx)
	x.examineQuorums()
}

// socketMode reports whether Slack is connected by a socket and calls no address of ours.
func (d *doctor) socketMode() bool { return d.config.Slack.Mode == "socket" }

// examineDoor looks at what lets Slack in.
func (d *doctor) examineDoor() {
	s := d.config.Slack
	if d.socketMode() {
		if !strings.HasPrefix(s.AppToken.Reveal(), "xapp-") {
			d.fail("slack.app_token does not begin with xapp-", "Socket Mode needs an app-level token with the scope connections:write "+
				"(Basic Information, App-Level Tokens)")
		} else {
			d.ok("Socket Mode, with an app-level token; no connection was opened")
		}
		return
	}
	switch n := len(s.SigningSecrets); {
	case n == 0:
		d.fail("there are no signing secrets", "every request of Slack will be refused; set slack.signing_secrets")
	case n > 1:
		d.ok(fmt.Sprintf("HTTP, with %d signing secrets; remove the older one when the rotation is over", n))
	default:
		d.ok("HTTP, with one signing secret")
	}
	if prefix := "xoxb-"; !strings.HasPrefix(s.BotToken.Reveal(), prefix) && !strings.HasPrefix(s.BotToken.Reveal(), "xoxe.") {
		d.warn("slack.bot_token does not look like a bot token (xoxb-…)", "take the Bot User OAuth Token")
	}
}

// slackExam is an examination with a token that works.
type slackExam struct {
	*doctor
	client *slack.Client
	// facts are what Slack said of people and user groups.
	facts policy.Facts
	id    slack.Identity
}

// maxPatience bounds waiting for Slack to take another call.
const maxPatience = 2 * time.Minute

// ask makes a call, and makes it again when Slack wants it later.
func (x *slackExam) ask(ctx context.Context, call func() error) error {
	for {
		err := call()
		var e *slack.Error
		if !errors.As(err, &e) || e.Class != slack.RateLimited || e.RetryAfter > maxPatience {
			return err
		}
		x.progress(fmt.Sprintf("Slack takes no more %s for %s: waiting", e.Method, e.RetryAfter))
		later := time.NewTimer(e.RetryAfter)
		select {
		case <-ctx.Done():
			later.Stop()
			return ctx.Err()
		case <-later.C:
		}
	}
}

// code is Slack's word for a failure, "" for none.
func code(err error) string {
	var e *slack.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// remedies say what to do about failures whoever meets them.
var remedies = map[string]string{
	"invalid_auth": "slack.bot_token is no token of this Slack: take the Bot User OAuth Token", "not_authed": "slack.bot_token is empty",
	"account_inactive": "the app was uninstalled or its workspace deleted: install it again and take the new token",
	"token_revoked":    "the token was revoked: install the app again and take the new token",
	"token_expired":    "the token rotates: give slack.client_id, client_secret and refresh_token, by which it is renewed",
	"missing_scope":    "add the scope in the app's settings (countersign slack manifest prints them all) and install it again",
	"network":          "Slack cannot be reached: check the network and slack.api_url", "timeout": "Slack does not answer: check the network",
}

func remedy(err error, otherwise string) string {
	if text, ok := remedies[code(err)]; ok {
		return text
	}
	return otherwise
}

// examineIdentity asks whose the token is, what it may do, and what time it is there.
func (x *slackExam) examineIdentity(ctx context.Context) bool {
	before := x.env.now()
	err := x.ask(ctx, func() (err error) { before = x.env.now(); x.id, err = x.client.Auth(ctx); return err })
	if code(err) == "token_expired" && !x.config.Slack.RefreshToken.IsZero() {
		x.warn("slack.bot_token has expired, as tokens do that rotate: nothing more can be asked with it",
			"serve holds a newer one; look at its log, or examine with a token that was issued just now")
		return false
	}
	if err != nil {
		x.fail("auth.test: "+err.Error(), remedy(err, "check slack.bot_token and slack.api_url"))
		return false
	}
	after, s := x.env.now(), x.config.Slack
	switch where := fmt.Sprintf("workspace %s (%s), app user %s", x.id.Team, x.id.TeamID, x.id.UserID); {
	case slices.Contains(s.TeamIDs, x.id.TeamID), x.id.EnterpriseID != "" && slices.Contains(s.EnterpriseIDs, x.id.EnterpriseID):
		x.ok("the bot token is of " + where)
	default:
		x.fail("the bot token is of "+where+", which is not in slack.team_ids", "every click would be refused: add "+x.id.TeamID+" to slack.team_ids, or take the other token")
	}
	if x.id.EnterpriseInstall && len(s.EnterpriseIDs) == 0 {
		x.warn("the app is installed for the organisation "+x.id.EnterpriseID, "only the workspaces in slack.team_ids are let in; add it to slack.enterprise_ids for all of them")
	}
	x.examineScopes()
	if x.id.Date.IsZero() {
		x.warn("Slack did not say what time it is", "")
		return true
	}
	// The header is in whole seconds, cut off.
	x.skewed("Slack's", x.id.Date.Add(500*time.Millisecond).Sub(before.Add(after.Sub(before)/2)), "beyond five minutes every request of Slack is refused as too old")
	return true
}

func (x *slackExam) examineScopes() {
	s := x.config.Slack
	wants := manifestWants{groups: len(x.config.UserGroups()) > 0, email: s.MatchEmail, history: true}
	var missing, idle []string
	for _, n := range wants.needs() {
		switch {
		case slices.Contains(x.id.Scopes, n.scope):
		case n.required:
			x.fail("the scope "+n.scope+" is missing, for: "+n.feature, remedies["missing_scope"])
			missing = append(missing, n.scope)
		case slices.Contains(slack.HistoryScopes(), n.scope):
			idle = append(idle, n.scope)
		default:
			x.warn("the scope "+n.scope+" is missing, for: "+n.feature, remedies["missing_scope"])
			missing = append(missing, n.scope)
		}
	}
	if len(missing) == 0 {
		x.ok(fmt.Sprintf("all scopes that the configuration needs are granted (%d)", len(wants.needs())-len(slack.HistoryScopes())))
	}
	if len(idle) > 0 {
		x.ok("without " + strings.Join(idle, ", ") + ": a post whose answer was lost is sent again, and rarely shows up twice")
	}
}

// examineChannels looks at every channel that cards may go to.
func (x *slackExam) examineChannels(ctx context.Context) {
	names, where := x.namedChannels()
	var listed []slack.ConversationFacts
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "#") }) {
		x.progress("listing the channels")
		if err := x.ask(ctx, func() (err error) { listed, err = x.client.Conversations(ctx); return err }); err != nil {
			x.fail("the channels cannot be listed: "+err.Error(), remedy(err, "try again"))
			return
		}
	}
	for _, name := range names {
		what := fmt.Sprintf("%s (%s)", name, strings.Join(where[name], ", "))
		facts, err := x.channel(ctx, listed, name)
		if err != nil {
			x.fail(what+": "+err.Error(), remedy(err, "try again"))
			continue
		}
		x.judgeChannel(what, facts)
	}
}

// channel finds a channel by id or #name; the zero facts stand for none that the bot can see.
func (x *slackExam) channel(ctx context.Context, listed []slack.ConversationFacts, name string) (facts slack.ConversationFacts, err error) {
	if plain, byName := strings.CutPrefix(name, "#"); byName {
		for _, c := range listed {
			if c.Name == plain {
				return c, nil
			}
		}
		return slack.ConversationFacts{}, nil
	}
	err = x.ask(ctx, func() (err error) { facts, err = x.client.Conversation(ctx, name); return err })
	if code(err) == "channel_not_found" {
		return slack.ConversationFacts{}, nil
	}
	return facts, err
}

func (x *slackExam) judgeChannel(what string, c slack.ConversationFacts) {
	switch {
	case c.ID == "":
		x.fail(what+" is not there", "create it, or correct the name; if it is private, /invite the app to it first")
	case c.Archived:
		x.fail(what+" is archived", "unarchive it, or name another")
	case !c.Member && !c.Direct:
		x.fail(what+": the app is not in it", "/invite the app to it")
	case c.ExternallyShared && !x.config.Slack.AllowExternal:
		x.fail(what+" is shared with another organisation, and nothing is posted there", "name another, or set slack.allow_external: true")
	case c.ExternallyShared:
		x.warn(what+" is shared with another organisation", "its people read every card; they cannot decide")
	default:
		x.ok(what + " is there, and the app is in it")
	}
}

// examineGroups looks at every user group that groups of the configuration stand for.
func (x *slackExam) examineGroups(ctx context.Context) {
	wanted := x.config.UserGroups()
	if len(wanted) == 0 {
		return
	}
	var all []slack.GroupFacts
	var teams []string
	if x.id.EnterpriseInstall { // such a token has to say which workspace it asks about
		teams = x.config.Slack.TeamIDs
	}
	if err := x.ask(ctx, func() (err error) { all, err = x.client.UserGroups(ctx, teams...); return err }); err != nil {
		x.fail("the user groups cannot be listed: "+err.Error(), remedy(err, "user groups need a paid plan"))
		return
	}
	for _, id := range wanted {
		i := slices.IndexFunc(all, func(g slack.GroupFacts) bool { return g.ID == id })
		if i < 0 {
			x.fail(x.groupNames(id)+" is not there", "correct slack_usergroup")
			continue
		}
		g := all[i]
		x.facts.Groups[id] = policy.SlackGroup{ID: id, Handle: g.Handle, Members: g.Members, Disabled: g.Disabled, ReadAt: x.env.now()}
		switch {
		case g.Disabled:
			x.fail(fmt.Sprintf("%s, @%s, is disabled: nobody is in it", x.groupNames(id), g.Handle), "enable it, or name another")
		case len(g.Members) == 0:
			x.fail(fmt.Sprintf("%s, @%s, is empty", x.groupNames(id), g.Handle), "put people into it")
		}
	}
}

// groupNames says what a user group is called here.
func (x *slackExam) groupNames(id string) string {
	var names []string
	for _, g := range x.config.Groups {
		if g.SlackUsergroup == id {
			names = append(names, g.Name)
		}
	}
	return fmt.Sprintf("user group %s (group %s)", id, strings.Join(names, ", "))
}
