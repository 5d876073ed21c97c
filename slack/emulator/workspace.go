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

// PutUser adds a person or replaces the one with the same ID.
func (s *Server) PutUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putUser(u)
	s.directoryChanged()
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
// messages stay. The bot is a member when Members holds its user ID.
func (s *Server) PutChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putChannel(c)
	s.directoryChanged()
}

func (s *Server) putChannel(c Channel) *channel {
	c.Members = slices.Clone(c.Members)
	if ch, known := s.channels[c.ID]; known {
		ch.Channel = c
		return ch
	}
	ch := &channel{Channel: c, byTS: map[string]*message{}}
	s.channels[c.ID] = ch
	s.channelOrder = append(s.channelOrder, c.ID)
	return ch
}

// PutUserGroup adds a user group or replaces the one with the same ID.
func (s *Server) PutUserGroup(g UserGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putUserGroup(g)
	s.directoryChanged()
}

func (s *Server) putUserGroup(g UserGroup) {
	g.Members = slices.Clone(g.Members)
	if _, known := s.groups[g.ID]; !known {
		s.groupOrder = append(s.groupOrder, g.ID)
	}
	s.groups[g.ID] = &g
}

// UpdateUser edits a person in place, and says whether there is one with that ID.
func (s *Server) UpdateUser(id string, edit func(*User)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[id]
	if ok {
		edit(u)
		s.directoryChanged()
	}
	return ok
}

// UpdateChannel edits a channel in place, and says whether there is one with that ID.
func (s *Server) UpdateChannel(id string, edit func(*Channel)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[id]
	if ok {
		edit(&c.Channel)
		s.directoryChanged()
	}
	return ok
}

// UpdateUserGroup edits a user group in place, and says whether there is one with that ID.
func (s *Server) UpdateUserGroup(id string, edit func(*UserGroup)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[id]
	if ok {
		edit(g)
		s.directoryChanged()
	}
	return ok
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
