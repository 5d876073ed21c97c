package emulator

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// Workspace is a set of people, channels and user groups.
type Workspace struct {
	Users      []User      `json:"users"`
	Channels   []Channel   `json:"channels"`
	UserGroups []UserGroup `json:"user_groups"`
}

// User is a person or bot. Which flags make somebody external is the app's to work out, as
// it is with Slack: there is no single flag for it.
type User struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	RealName string `json:"real_name"`
	Email    string `json:"email,omitempty"`
	Title    string `json:"title,omitempty"`
	// TeamID is the person's home workspace. Zero: this one.
	TeamID            string `json:"team_id"`
	Deleted           bool   `json:"deleted,omitempty"`
	IsBot             bool   `json:"is_bot,omitempty"`
	IsRestricted      bool   `json:"is_restricted,omitempty"`
	IsUltraRestricted bool   `json:"is_ultra_restricted,omitempty"`
	IsStranger        bool   `json:"is_stranger,omitempty"`
	IsInvited         bool   `json:"is_invited_user,omitempty"`
	EmailUnconfirmed  bool   `json:"email_unconfirmed,omitempty"`
	// IsAppUser marks the user of an app, which is not a bot user.
	IsAppUser bool `json:"is_app_user,omitempty"`
	// EnterpriseUserID is the person's id in their Grid organisation, EnterpriseID the
	// organisation and Teams the workspaces of it they are in. They are shown when
	// EnterpriseUserID is set. EnterpriseID zero: the workspace's own. Teams nil: TeamID alone.
	EnterpriseUserID string   `json:"enterprise_user_id,omitempty"`
	EnterpriseID     string   `json:"enterprise_id,omitempty"`
	Teams            []string `json:"teams,omitempty"`
	// Color is the avatar's, "#rrggbb". Zero: one derived from ID.
	Color string `json:"color"`
}

// Channel is a public or private channel, or a direct message when User is set.
type Channel struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Topic     string   `json:"topic,omitempty"`
	Members   []string `json:"members"`
	Private   bool     `json:"private,omitempty"`
	Archived  bool     `json:"archived,omitempty"`
	ExtShared bool     `json:"ext_shared,omitempty"`
	OrgShared bool     `json:"org_shared,omitempty"`
	// PendingShare says that somebody was invited to share it and has not accepted yet.
	PendingShare bool `json:"pending_share,omitempty"`
	// ConnectedTeams are the other workspaces it is shared with.
	ConnectedTeams []string `json:"connected_teams,omitempty"`
	// User is the person on the other side of a direct message with the bot.
	User string `json:"user,omitempty"`
}

// UserGroup is what @handle mentions expand to.
type UserGroup struct {
	ID       string   `json:"id"`
	Handle   string   `json:"handle"`
	Name     string   `json:"name"`
	Members  []string `json:"members"`
	Disabled bool     `json:"disabled,omitempty"`
}

// isIM says whether the channel is a direct message.
func (c Channel) isIM() bool { return c.User != "" }

// payloadName is the channel name as interaction payloads carry it: Slack puts a fixed word
// in place of the names of direct messages and private channels.
func (c Channel) payloadName() string {
	switch {
	case c.isIM():
		return "directmessage"
	case c.Private:
		return "privategroup"
	default:
		return c.Name
	}
}

// avatarColors are readable under white initials.
var avatarColors = []string{"#5b5bd6", "#0d8f76", "#c2410c", "#b4246e", "#2563a8", "#7a5c00", "#7c3aed", "#3f7d20"}

func colorOf(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return avatarColors[int(h.Sum32())%len(avatarColors)]
}

// PutUser adds a person or replaces the one with the same ID. The app hears of it by
// team_join or user_change.
func (s *Server) PutUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.users[u.ID]
	s.putUser(u)
	s.directoryChanged()
	if known {
		s.tellUser("user_change", s.users[u.ID])
	} else {
		s.tellUser("team_join", s.users[u.ID])
	}
}

func (s *Server) putUser(u User) {
	if u.TeamID == "" {
		u.TeamID = s.cfg.TeamID
	}
	if u.Color == "" {
		u.Color = colorOf(u.ID)
	}
	if _, known := s.users[u.ID]; !known {
		s.userOrder = append(s.userOrder, u.ID)
	}
	s.users[u.ID] = &u
}

// PutChannel adds a channel or replaces the settings of the one with the same ID; its
// messages stay. The bot is a member when Members holds its user ID. The app hears of an
// existing one that was archived or shared.
func (s *Server) PutChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.channels[c.ID].settings()
	after := s.putChannel(c)
	s.directoryChanged()
	s.tellChannel(before, after)
}

func (s *Server) putChannel(c Channel) *channel {
	c.Members = slices.Clone(c.Members)
	if ch, known := s.channels[c.ID]; known {
		ch.Channel = c
		return ch
	}
	ch := newChannel(c)
	s.channels[c.ID] = ch
	s.channelOrder = append(s.channelOrder, c.ID)
	return ch
}

// PutUserGroup adds a user group or replaces the one with the same ID. The app hears of a
// change by subteam_updated and, of its members, by subteam_members_changed.
func (s *Server) PutUserGroup(g UserGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.groups[g.ID].copied()
	s.putUserGroup(g)
	s.directoryChanged()
	s.tellGroup(before, s.groups[g.ID])
}

func (s *Server) putUserGroup(g UserGroup) {
	g.Members = slices.Clone(g.Members)
	if _, known := s.groups[g.ID]; !known {
		s.groupOrder = append(s.groupOrder, g.ID)
	}
	s.groups[g.ID] = &g
}

// UpdateUser edits a person in place, and says whether there is one with that ID. The app
// hears of it by user_change.
func (s *Server) UpdateUser(id string, edit func(*User)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[id]
	if ok {
		edit(u)
		s.directoryChanged()
		s.tellUser("user_change", u)
	}
	return ok
}

// UpdateChannel edits a channel in place, and says whether there is one with that ID. The app
// hears of it as with PutChannel.
func (s *Server) UpdateChannel(id string, edit func(*Channel)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[id]
	if ok {
		before := c.settings()
		edit(&c.Channel)
		s.directoryChanged()
		s.tellChannel(before, c)
	}
	return ok
}

// UpdateUserGroup edits a user group in place, and says whether there is one with that ID.
// The app hears of it as with PutUserGroup.
func (s *Server) UpdateUserGroup(id string, edit func(*UserGroup)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[id]
	if ok {
		before := g.copied()
		edit(g)
		s.directoryChanged()
		s.tellGroup(before, g)
	}
	return ok
}

// RenameChannelID gives a channel another id, as Slack does when a private one begins to be
// shared, and says whether there is one with the old id. The app hears of it by
// channel_id_changed; calls with the old id are answered channel_not_found.
func (s *Server) RenameChannelID(from, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, ok := s.channels[from]
	if !ok || s.channels[to] != nil {
		return false
	}
	ch.rename(to)
	delete(s.channels, from)
	s.channels[to] = ch
	s.channelOrder[slices.Index(s.channelOrder, from)] = to
	s.directoryChanged()
	s.fire("channel_id_changed", object{"type": "channel_id_changed", "old_channel_id": from, "new_channel_id": to})
	return true
}

// Uninstall takes the app out of the workspace: its tokens are answered account_inactive, and
// it hears of it by tokens_revoked and app_uninstalled, in no order an app may count on.
func (s *Server) Uninstall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authError = "account_inactive"
	s.fire("tokens_revoked", object{"type": "tokens_revoked", "tokens": object{"oauth": []string{}, "bot": []string{s.cfg.BotUserID}}})
	s.fire("app_uninstalled", object{"type": "app_uninstalled"})
	s.touch()
}

// RevokeTokens makes every use of the app's tokens fail with token_revoked; the app hears of it
// by tokens_revoked. [Server.SetAuthError] makes them good again.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authError = "token_revoked"
	s.fire("tokens_revoked", object{"type": "tokens_revoked", "tokens": object{"oauth": []string{}, "bot": []string{s.cfg.BotUserID}}})
	s.touch()
}

// openIM returns the direct message between the bot and a person, making it at need.
func (s *Server) openIM(user string) *channel {
	for _, c := range s.channels {
		if c.User == user {
			return c
		}
	}
	id := "D" + strings.TrimPrefix(user, user[:1])
	if _, taken := s.channels[id]; taken {
		id = "D" + user
	}
	return s.putChannel(Channel{ID: id, Name: user, User: user, Members: []string{user, s.cfg.BotUserID}})
}

// canSee says whether a person can read a channel: members can, and full members of the
// workspace can also look into its public channels.
func (s *Server) canSee(user string, c *channel) bool {
	if slices.Contains(c.Members, user) {
		return true
	}
	u, ok := s.users[user]
	if !ok || c.Private || c.isIM() {
		return false
	}
	return u.TeamID == s.cfg.TeamID && !u.IsRestricted && !u.IsUltraRestricted && !u.IsStranger
}

// actor returns the person who wants to act, who must exist and be able to log in.
func (s *Server) actor(user string) (*User, error) {
	u, ok := s.users[user]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: user %s", ErrNotFound, user)
	case u.Deleted:
		return nil, fmt.Errorf("%w: user %s is deactivated", ErrNotAllowed, user)
	default:
		return u, nil
	}
}
