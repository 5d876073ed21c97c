package emulator

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

func authTest(c *call) (object, error) {
	o := object{
		"url": "https://" + c.cfg.TeamDomain + ".slack.com/", "team": c.cfg.TeamName, "team_id": c.cfg.TeamID,
		"user": c.cfg.BotName, "user_id": c.cfg.BotUserID, "bot_id": c.cfg.BotID, "is_enterprise_install": c.cfg.OrgInstall,
	}
	if c.cfg.EnterpriseID != "" {
		o["enterprise_id"] = c.cfg.EnterpriseID
	}
	if !c.tok.expires.IsZero() {
		o["expires_in"] = int(c.tok.expires.Sub(c.now).Seconds())
	}
	return o, nil
}

func teamInfo(c *call) (object, error) {
	if id := c.str("team"); id != "" && id != c.cfg.TeamID {
		return nil, fail("team_not_found")
	}
	o := object{"id": c.cfg.TeamID, "name": c.cfg.TeamName, "domain": c.cfg.TeamDomain, "email_domain": ""}
	if c.cfg.EnterpriseID != "" {
		o["enterprise_id"], o["enterprise_name"] = c.cfg.EnterpriseID, c.cfg.EnterpriseName
	}
	return object{"team": o}, nil
}

func botInfo(c *call) (object, error) {
	if id := c.str("bot"); id != "" && id != c.cfg.BotID {
		return nil, fail("bot_not_found")
	}
	return object{"bot": object{
		"id": c.cfg.BotID, "deleted": false, "name": c.cfg.BotName, "updated": 1700000000, "app_id": c.cfg.AppID, "user_id": c.cfg.BotUserID,
	}}, nil
}

// wireUser returns a person as users.info shows them; the address needs its own scope.
func (c *call) wireUser(u *User) object {
	profile := object{"real_name": u.RealName, "display_name": u.Name, "title": u.Title, "team": u.TeamID}
	if c.need("users:read.email") == nil && u.Email != "" && !u.IsStranger {
		profile["email"] = u.Email
	}
	o := object{
		"id": u.ID, "team_id": u.TeamID, "name": u.Name, "real_name": u.RealName, "deleted": u.Deleted, "profile": profile,
		"is_bot": u.IsBot, "is_app_user": u.IsAppUser, "is_restricted": u.IsRestricted || u.IsUltraRestricted, "is_ultra_restricted": u.IsUltraRestricted,
		"is_stranger": u.IsStranger, "is_invited_user": u.IsInvited, "is_email_confirmed": !u.EmailUnconfirmed && !u.IsBot,
		"is_admin": false, "is_owner": false, "tz": "Etc/UTC", "tz_offset": 0, "updated": c.now.Unix(),
	}
	if u.EnterpriseUserID != "" {
		o["enterprise_user"] = object{
			"id": u.EnterpriseUserID, "enterprise_id": cmp.Or(u.EnterpriseID, c.cfg.EnterpriseID), "enterprise_name": c.cfg.EnterpriseName,
			"is_admin": false, "is_owner": false, "teams": u.teams(),
		}
	}
	return o
}

// teams are the workspaces of the Grid a person is in.
func (u *User) teams() []string {
	if len(u.Teams) == 0 {
		return []string{u.TeamID}
	}
	return nonNil(u.Teams)
}

// inGrid says whether a person of another workspace belongs to this one through the Grid.
func (s *Server) inGrid(u *User) bool {
	return s.cfg.EnterpriseID != "" && u.EnterpriseUserID != "" &&
		cmp.Or(u.EnterpriseID, s.cfg.EnterpriseID) == s.cfg.EnterpriseID && slices.Contains(u.Teams, s.cfg.TeamID)
}

func userInfo(c *call) (object, error) {
	u, ok := c.users[c.str("user")]
	if !ok {
		return nil, fail("user_not_found")
	}
	return object{"user": c.wireUser(u)}, nil
}

func userByEmail(c *call) (object, error) {
	email := c.str("email")
	for _, u := range c.users {
		if email != "" && strings.EqualFold(u.Email, email) && !u.Deleted {
			return object{"user": c.wireUser(u)}, nil
		}
	}
	return nil, fail("users_not_found")
}

func userList(c *call) (object, error) {
	if err := c.inTeam(); err != nil {
		return nil, err
	}
	ids, next, err := page(c, c.userOrder, 999)
	if err != nil {
		return nil, err
	}
	members := make([]object, 0, len(ids)) // bots and deactivated people included, as Slack lists them
	for _, id := range ids {
		members = append(members, c.wireUser(c.users[id]))
	}
	return object{"members": members, "cache_ts": c.now.Unix(), "response_metadata": object{"next_cursor": next}}, nil
}

// page cuts one page out of all by the limit and cursor arguments.
func page[T any](c *call, all []T, usual int) (items []T, next string, err error) {
	from, err := cursorOf(c.str("cursor"))
	if err != nil || from > len(all) {
		return nil, "", fail("invalid_cursor")
	}
	to := min(from+c.limit(usual), len(all))
	if to < len(all) {
		next = base64.StdEncoding.EncodeToString([]byte("next:" + strconv.Itoa(to)))
	}
	return all[from:to], next, nil
}

func cursorOf(cursor string) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	raw, err := base64.StdEncoding.DecodeString(cursor)
	if err != nil {
		return 0, fail("invalid_cursor")
	}
	n, err := strconv.Atoi(strings.TrimPrefix(string(raw), "next:"))
	if err != nil || n < 0 {
		return 0, fail("invalid_cursor")
	}
	return n, nil
}

func groupList(c *call) (object, error) {
	if err := c.inTeam(); err != nil {
		return nil, err
	}
	groups := []object{}
	for _, id := range c.groupOrder {
		if g := c.groups[id]; !g.Disabled || c.flag("include_disabled") {
			groups = append(groups, c.wireGroup(g, c.flag("include_users")))
		}
	}
	return object{"usergroups": groups}, nil
}

func (c *call) wireGroup(g *UserGroup, withUsers bool) object {
	deleted := 0
	if g.Disabled {
		deleted = 1
	}
	o := object{
		"id": g.ID, "team_id": c.cfg.TeamID, "is_usergroup": true, "handle": g.Handle, "name": g.Name,
		"is_external": false, "date_delete": deleted, "user_count": len(g.Members),
	}
	if withUsers {
		o["users"] = nonNil(g.Members)
	}
	return o
}

func groupMembers(c *call) (object, error) {
	if err := c.inTeam(); err != nil {
		return nil, err
	}
	g, ok := c.groups[c.str("usergroup")]
	if !ok || g.Disabled && !c.flag("include_disabled") {
		return nil, fail("no_such_subteam")
	}
	return object{"users": nonNil(g.Members)}, nil
}

// nonNil makes an empty list encode as [] and not as null.
func nonNil(list []string) []string { return append([]string{}, list...) }

func openConversation(c *call) (object, error) {
	if id := c.str("channel"); id != "" {
		ch := c.channels[id]
		if ch == nil || !ch.isIM() {
			return nil, fail("channel_not_found")
		}
		return c.opened(ch, true), nil
	}
	users := commaList(c.str("users"))
	switch {
	case len(users) == 0:
		return nil, fail("users_list_not_supplied")
	case len(users) > 1:
		return nil, cmp.Or(c.need("mpim:write"), fail("method_not_supported_for_channel_type"))
	}
	return c.openWith(users[0])
}

func (c *call) openWith(user string) (object, error) {
	u, ok := c.users[user]
	switch {
	case !ok:
		return nil, fail("user_not_found")
	case u.IsBot:
		return nil, fail("cannot_dm_bot")
	case u.Deleted:
		return nil, fail("user_disabled")
	}
	before := len(c.channels)
	ch := c.openIM(user)
	return c.opened(ch, len(c.channels) == before), nil
}

func (c *call) opened(ch *channel, already bool) object {
	o := object{"channel": object{"id": ch.ID}}
	if c.flag("return_im") {
		o["channel"] = c.wireChannel(ch)
	}
	if already {
		o["no_op"], o["already_open"] = true, true
	} else {
		c.touch()
	}
	return o
}

// readable finds a channel for reading and checks the scope its kind asks for.
func (c *call) readable(action string) (*channel, error) {
	ch := c.channels[c.str("channel")]
	if ch == nil {
		return nil, fail("channel_not_found")
	}
	kind := "channels"
	switch {
	case ch.isIM():
		kind = "im"
	case ch.Private:
		kind = "groups"
	}
	if err := c.need(kind + ":" + action); err != nil {
		return nil, err
	}
	if ch.Private && !c.isIn(ch) {
		return nil, fail("channel_not_found")
	}
	return ch, nil
}

func conversationInfo(c *call) (object, error) {
	ch, err := c.readable("read")
	if err != nil {
		return nil, err
	}
	o := c.wireChannel(ch)
	if c.flag("include_num_members") {
		o["num_members"] = len(ch.Members)
	}
	return object{"channel": o}, nil
}

func (c *call) wireChannel(ch *channel) object {
	o := object{
		"id": ch.ID, "created": 1700000000, "is_archived": ch.Archived, "context_team_id": c.cfg.TeamID,
		"is_im": ch.isIM(), "is_mpim": false, "is_channel": !ch.isIM() && !ch.Private, "is_group": ch.Private,
		"is_private": ch.Private || ch.isIM(), "is_ext_shared": ch.ExtShared, "is_org_shared": ch.OrgShared,
		"is_shared": ch.ExtShared || ch.OrgShared, "is_pending_ext_shared": ch.PendingShare, "connected_team_ids": nonNil(ch.ConnectedTeams), "is_member": slices.Contains(ch.Members, c.cfg.BotUserID),
	}
	if ch.isIM() {
		o["user"] = ch.User
	} else {
		o["name"], o["name_normalized"], o["is_general"] = ch.Name, ch.Name, ch.Name == "general"
		o["topic"] = object{"value": ch.Topic, "creator": "", "last_set": 0}
	}
	return o
}
