package slack

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
)

// UserFacts is what Slack says of a member.
type UserFacts struct {
	// ID is the one that was asked for.
	ID string
	// TeamID is the workspace they belong to, EnterpriseID the organisation; Teams are all
	// of their workspaces in it.
	TeamID, EnterpriseID string
	Teams                []string
	// Name is for people to read. It proves nothing, since everybody chooses their own.
	Name string
	// Email is "" without the scope users:read.email.
	Email                                                  string
	EmailConfirmed, Deleted, Bot, Guest, Stranger, Invited bool
}

// slackbot is a member of every workspace. It is not flagged as a bot.
const slackbot = "USLACKBOT"

type wireUser struct {
	ID             string `json:"id"`
	TeamID         string `json:"team_id"`
	Name           string `json:"name"`
	RealName       string `json:"real_name"`
	Deleted        bool   `json:"deleted"`
	Bot            bool   `json:"is_bot"`
	ConnectorBot   bool   `json:"is_connector_bot"`
	WorkflowBot    bool   `json:"is_workflow_bot"`
	Restricted     bool   `json:"is_restricted"`
	UltraRestrict  bool   `json:"is_ultra_restricted"`
	Stranger       bool   `json:"is_stranger"`
	Invited        bool   `json:"is_invited_user"`
	EmailConfirmed bool   `json:"is_email_confirmed"`
	Profile        struct {
		Email    string `json:"email"`
		Team     string `json:"team"`
		RealName string `json:"real_name"`
	} `json:"profile"`
	Enterprise struct {
		ID           string   `json:"id"`
		EnterpriseID string   `json:"enterprise_id"`
		Teams        []string `json:"teams"`
	} `json:"enterprise_user"`
}

// facts leaves is_app_user out: it marks people who have authorised an app, not bots.
func (u wireUser) facts(id string) UserFacts {
	return UserFacts{
		ID: id, TeamID: cmp.Or(u.Profile.Team, u.TeamID), EnterpriseID: u.Enterprise.EnterpriseID, Teams: u.Enterprise.Teams,
		Name: cmp.Or(u.RealName, u.Profile.RealName, u.Name), Email: u.Profile.Email, EmailConfirmed: u.EmailConfirmed,
		Deleted: u.Deleted, Bot: u.Bot || u.ConnectorBot || u.WorkflowBot || id == slackbot,
		Guest: u.Restricted || u.UltraRestrict, Stranger: u.Stranger, Invited: u.Invited,
	}
}

// UserInfo asks who a member is (users.info; scope users:read, and users:read.email for the
// address). An unknown member is a [Permanent] error with the code user_not_found.
func (c *Client) UserInfo(ctx context.Context, id string) (UserFacts, error) {
	const method = "users.info"
	if err := c.checkID(ctx, method, id); err != nil {
		return UserFacts{}, err
	}
	var got struct {
		envelope
		User wireUser `json:"user"`
	}
	if _, err := c.ask(ctx, method, url.Values{"user": {id}}, &got); err != nil {
		return UserFacts{}, err
	}
	if got.User.ID != id && got.User.Enterprise.ID != id {
		return UserFacts{}, c.notAnswered(ctx, method) // somebody else, or nobody
	}
	return got.User.facts(id), nil
}

// UserByEmail asks whose an address is (users.lookupByEmail; scope users:read.email). An
// address that is nobody's is a [Permanent] error with the code users_not_found.
func (c *Client) UserByEmail(ctx context.Context, email string) (UserFacts, error) {
	const method = "users.lookupByEmail"
	var got struct {
		envelope
		User wireUser `json:"user"`
	}
	if _, err := c.ask(ctx, method, url.Values{"email": {email}}, &got); err != nil {
		return UserFacts{}, err
	}
	if !idPattern.MatchString(got.User.ID) || !strings.EqualFold(got.User.Profile.Email, email) {
		return UserFacts{}, c.notAnswered(ctx, method)
	}
	return got.User.facts(got.User.ID), nil
}

// GroupFacts is what Slack says of a user group.
type GroupFacts struct {
	ID, TeamID string
	// Handle is what it is mentioned by, without the @; Name is for people to read.
	Handle, Name string
	// Members are ids, sorted.
	Members  []string
	Disabled bool
}

// UserGroups lists all user groups with their members, those that are disabled too
// (usergroups.list; scope usergroups:read). teams are the workspaces to ask about, which
// the token of a whole organisation needs; none means that of the token.
func (c *Client) UserGroups(ctx context.Context, teams ...string) ([]GroupFacts, error) {
	if len(teams) == 0 {
		return c.userGroups(ctx, "")
	}
	var out []GroupFacts
	for _, team := range teams {
		some, err := c.userGroups(ctx, team)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func (c *Client) userGroups(ctx context.Context, team string) ([]GroupFacts, error) {
	var got struct {
		envelope
		Groups *[]struct {
			ID         string   `json:"id"`
			TeamID     string   `json:"team_id"`
			Handle     string   `json:"handle"`
			Name       string   `json:"name"`
			DateDelete int64    `json:"date_delete"`
			Users      []string `json:"users"`
		} `json:"usergroups"`
	}
	args := url.Values{"include_users": {"true"}, "include_disabled": {"true"}}
	if team != "" {
		args.Set("team_id", team)
	}
	if _, err := c.ask(ctx, "usergroups.list", args, &got); err != nil {
		return nil, err
	}
	if got.Groups == nil { // nobody must lose their groups to an answer that does not list any
		return nil, c.notAnswered(ctx, "usergroups.list")
	}
	out := make([]GroupFacts, 0, len(*got.Groups))
	for _, g := range *got.Groups {
		slices.Sort(g.Users)
		out = append(out, GroupFacts{ID: g.ID, TeamID: g.TeamID, Handle: g.Handle, Name: g.Name, Members: slices.Compact(g.Users), Disabled: g.DateDelete != 0})
	}
	return out, nil
}
