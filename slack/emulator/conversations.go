package emulator

import (
	"regexp"
	"slices"
	"strings"
)

// conversationKinds are the types of conversations.list and the scope each needs.
var conversationKinds = map[string]string{
	"public_channel": "channels:read", "private_channel": "groups:read", "im": "im:read", "mpim": "mpim:read",
}

// typeOf is a channel's type as conversations.list names it.
func (c Channel) typeOf() string {
	switch {
	case c.isIM():
		return "im"
	case c.Private:
		return "private_channel"
	default:
		return "public_channel"
	}
}

func conversationList(c *call) (object, error) {
	if err := c.inTeam(); err != nil {
		return nil, err
	}
	kinds := commaList(c.str("types"))
	if len(kinds) == 0 {
		kinds = []string{"public_channel"}
	}
	for _, k := range kinds {
		scope, known := conversationKinds[k]
		if !known {
			return nil, fail("invalid_types")
		}
		if err := c.need(scope); err != nil {
			return nil, err
		}
	}
	var found []*channel
	for _, id := range c.channelOrder {
		ch := c.channels[id]
		seen := ch.typeOf() != "private_channel" || c.isIn(ch)
		if seen && slices.Contains(kinds, ch.typeOf()) && (!ch.Archived || !c.flag("exclude_archived")) {
			found = append(found, ch)
		}
	}
	found, next, err := page(c, found, 100)
	if err != nil {
		return nil, err
	}
	wired := make([]object, 0, len(found))
	for _, ch := range found {
		o := c.wireChannel(ch)
		if !ch.isIM() {
			o["num_members"] = len(ch.Members)
		}
		wired = append(wired, o)
	}
	return object{"channels": wired, "response_metadata": object{"next_cursor": next}}, nil
}

func conversationMembers(c *call) (object, error) {
	ch, err := c.readable("read")
	if err != nil {
		return nil, err
	}
	ids, next, err := page(c, ch.Members, 100)
	if err != nil {
		return nil, err
	}
	return object{"members": nonNil(ids), "response_metadata": object{"next_cursor": next}}, nil
}

func joinConversation(c *call) (object, error) {
	ch := c.channels[c.str("channel")]
	switch {
	case ch == nil, ch.Private && !c.isIn(ch):
		return nil, fail("channel_not_found")
	case ch.isIM(), ch.Private:
		return nil, fail("method_not_supported_for_channel_type")
	case ch.Archived:
		return nil, fail("is_archived")
	}
	out := object{}
	if c.isIn(ch) {
		out["warning"] = "already_in_channel"
		out["response_metadata"] = object{"warnings": []string{"already_in_channel"}}
	} else {
		ch.Members = append(slices.Clone(ch.Members), c.cfg.BotUserID)
		c.directoryChanged()
	}
	out["channel"] = c.wireChannel(ch)
	return out, nil
}

var reactionName = regexp.MustCompile(`^[a-z0-9_+'-]+(::skin-tone-[2-6])?$`)

func addReaction(c *call) (object, error) {
	name := strings.Trim(c.str("name"), ":")
	if !reactionName.MatchString(name) {
		return nil, fail("invalid_name")
	}
	ch := c.channels[c.str("channel")]
	if ch == nil || ch.Private && !c.isIn(ch) {
		return nil, fail("channel_not_found")
	}
	m := ch.byTS[c.str("timestamp")]
	switch {
	case c.str("timestamp") == "":
		return nil, fail("no_item_specified")
	case m == nil:
		return nil, fail("message_not_found")
	case ch.Archived:
		return nil, fail("is_archived")
	case slices.Contains(m.reactions[name], c.cfg.BotUserID):
		return nil, fail("already_reacted")
	}
	if m.reactions == nil {
		m.reactions = map[string][]string{}
	}
	m.reactions[name] = append(m.reactions[name], c.cfg.BotUserID)
	m.changed()
	c.touch()
	return object{}, nil
}
