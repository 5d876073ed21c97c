package emulator

import (
	"slices"
	"strconv"
)

// settings is a copy of a channel's settings; of no channel, nil.
func (c *channel) settings() *Channel {
	if c == nil {
		return nil
	}
	s := c.Channel
	return &s
}

// copied is a copy of a group that later edits do not reach; of no group, nil.
func (g *UserGroup) copied() *UserGroup {
	if g == nil {
		return nil
	}
	c := *g
	c.Members = slices.Clone(g.Members)
	return &c
}

// tellUser sends the app a person as they are now.
func (s *Server) tellUser(name string, u *User) {
	c := s.botCall()
	s.fire(name, object{"type": name, "user": c.wireUser(u), "cache_ts": c.now.Unix()})
}

// tellChannel tells the app what changed in a channel it can see.
func (s *Server) tellChannel(before *Channel, after *channel) {
	if before == nil {
		return
	}
	if after.Archived && !before.Archived {
		s.fire("channel_archive", object{"type": "channel_archive", "channel": after.ID, "user": s.cfg.BotUserID, "is_moved": 0})
	}
	if after.ExtShared && !before.ExtShared {
		team := ""
		if len(after.ConnectedTeams) > 0 {
			team = after.ConnectedTeams[len(after.ConnectedTeams)-1]
		}
		s.fire("channel_shared", object{"type": "channel_shared", "channel": after.ID, "connected_team_id": team})
	}
}

// tellGroup tells the app what changed in a user group.
func (s *Server) tellGroup(before, after *UserGroup) {
	c := s.botCall()
	if before == nil {
		s.fire("subteam_created", object{"type": "subteam_created", "subteam": c.wireGroup(after, true)})
		return
	}
	added, removed := missing(after.Members, before.Members), missing(before.Members, after.Members)
	if len(added)+len(removed) > 0 {
		s.fire("subteam_members_changed", object{
			"type": "subteam_members_changed", "subteam_id": after.ID, "team_id": s.cfg.TeamID,
			"date_previous_update": c.now.Unix(), "date_update": c.now.Unix(),
			"added_users": added, "added_users_count": strconv.Itoa(len(added)),
			"removed_users": removed, "removed_users_count": strconv.Itoa(len(removed)),
		})
	}
	s.fire("subteam_updated", object{"type": "subteam_updated", "subteam": c.wireGroup(after, true)})
}

// missing returns what is in list and not in other.
func missing(list, other []string) []string {
	return slices.DeleteFunc(nonNil(list), func(v string) bool { return slices.Contains(other, v) })
}

// messageEvents are the subscriptions for what people write, by type of channel.
var messageEvents = map[string][2]string{
	"public_channel": {"message.channels", "channel"}, "private_channel": {"message.groups", "group"}, "im": {"message.im", "im"},
}

// tellMessage tells the app what a person wrote where the bot can read it.
func (s *Server) tellMessage(ch *channel, m *message) {
	if m.user == s.cfg.BotUserID || !slices.Contains(ch.Members, s.cfg.BotUserID) {
		return
	}
	kind := messageEvents[ch.typeOf()]
	inner := s.wire(m, false)
	inner["channel"], inner["channel_type"], inner["event_ts"] = ch.ID, kind[1], m.ts
	s.fire(kind[0], inner)
}
