package emulator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// target finds the channel of a message to post: an id, a #name, or a person's id, which
// stands for the direct message with that person.
func (c *call) target() (*channel, error) {
	name := c.str("channel")
	if u, ok := c.users[name]; ok {
		if u.Deleted || u.ID == c.cfg.BotUserID {
			return nil, fail("channel_not_found")
		}
		return c.openIM(name), nil
	}
	ch := c.channels[name]
	for _, other := range c.channels {
		if ch == nil && !other.isIM() && other.Name == strings.TrimPrefix(name, "#") {
			ch = other
		}
	}
	return ch, c.postable(ch)
}

// postable says why the bot cannot post in a channel.
func (c *call) postable(ch *channel) error {
	switch {
	case ch == nil, ch.Private && !c.isIn(ch):
		return fail("channel_not_found")
	case ch.Archived:
		return fail("is_archived")
	case !c.isIn(ch):
		return fail("not_in_channel")
	}
	return nil
}

func (c *call) isIn(ch *channel) bool { return slices.Contains(ch.Members, c.cfg.BotUserID) }

func postMessage(c *call) (object, error) {
	ch, err := c.target()
	if err != nil {
		return nil, err
	}
	d, err := c.readDraft()
	if err != nil {
		return nil, err
	}
	m := &message{
		channel: ch.ID, user: c.cfg.BotUserID, text: truncateText(d.text), blocks: d.blocks,
		clientMsgID: c.str("client_msg_id"), broadcast: c.flag("reply_broadcast"),
	}
	if err := c.readMetadata(m); err != nil {
		return nil, err
	}
	if m.threadTS, err = c.parentOf(ch); err != nil {
		return nil, err
	}
	if err := c.once(ch, m); err != nil {
		return nil, err
	}
	m.ts, m.postedAt = ch.nextTS(c.now), c.now
	c.publish(ch, m)
	return object{"channel": ch.ID, "ts": m.ts, "message": c.wire(m, true)}, nil
}

// maxClientIDs bounds how many client_msg_ids are remembered; the oldest are forgotten.
const maxClientIDs = 20_000

// once refuses a client_msg_id that was used before in the channel. Slack does not document
// the argument; its documented errors tell that the server looks at it.
func (c *call) once(ch *channel, m *message) error {
	if m.clientMsgID == "" {
		return nil
	}
	key := ch.ID + "/" + m.clientMsgID
	if c.clientIDs[key] && !c.cfg.IgnoreClientMsgID {
		return fail("duplicate_message")
	}
	c.clientIDs[key] = true
	c.clientIDOrder = append(c.clientIDOrder, key)
	if len(c.clientIDOrder) > maxClientIDs {
		delete(c.clientIDs, c.clientIDOrder[0])
		c.clientIDOrder = c.clientIDOrder[1:]
	}
	return nil
}

// publish adds a message to its channel and tells the people it concerns.
func (s *Server) publish(ch *channel, m *message) {
	m.broadcast = m.broadcast && m.threadTS != ""
	ch.add(m)
	s.notify(ch, m)
	s.tellMessage(ch, m)
	s.touch()
}

var tsPattern = regexp.MustCompile(`^\d{10}\.\d{6}$`)

// parentOf returns the ts of the thread's first message, whichever of its messages is named.
func (c *call) parentOf(ch *channel) (string, error) {
	ts := c.str("thread_ts")
	if ts == "" {
		return "", nil
	}
	m := ch.byTS[ts]
	switch {
	case !tsPattern.MatchString(ts) || m == nil:
		return "", fail("invalid_thread_ts")
	case m.threadTS != "":
		return m.threadTS, nil
	default:
		return ts, nil
	}
}

// readMetadata takes metadata over when the call carries any, and keeps what is there if not.
func (c *call) readMetadata(m *message) error {
	v, given, err := c.structured("metadata")
	switch {
	case err != nil:
		return fail("invalid_metadata_format")
	case !given:
		return nil
	}
	if o, ok := v.(object); ok && len(o) == 0 {
		m.metadata = nil
		return nil
	}
	if err := checkMetadata(v); err != nil {
		return err
	}
	m.metadata = v
	return nil
}

// own finds the bot's own message that a call names by channel and ts.
func (c *call) own(notMine string) (*channel, *message, error) {
	ch := c.channels[c.str("channel")]
	if ch == nil || ch.Private && !c.isIn(ch) {
		return nil, nil, fail("channel_not_found")
	}
	m := ch.byTS[c.str("ts")]
	switch {
	case m == nil:
		return nil, nil, fail("message_not_found")
	case m.user != c.cfg.BotUserID:
		return nil, nil, fail(notMine)
	case ch.Archived:
		return nil, nil, fail("is_inactive")
	}
	return ch, m, nil
}

func updateMessage(c *call) (object, error) {
	_, m, err := c.own("cant_update_message")
	if err != nil {
		return nil, err
	}
	if c.cfg.EditWindow > 0 && c.now.Sub(m.postedAt) > c.cfg.EditWindow {
		return nil, fail("edit_window_closed")
	}
	if utf8.RuneCountInString(c.str("text")) > 4000 {
		return nil, fail("msg_too_long")
	}
	d, err := c.readDraft()
	if err != nil {
		return nil, err
	}
	if m.hasRichText() && len(d.blocks) > 0 && !anyRichText(d.blocks) {
		return nil, fail("block_mismatch")
	}
	if err := c.readMetadata(m); err != nil {
		return nil, err
	}
	m.edit(d.text, d.blocks)
	c.touch()
	return object{"channel": m.channel, "ts": m.ts, "text": m.text, "message": c.wire(m, true)}, nil
}

func deleteMessage(c *call) (object, error) {
	ch, m, err := c.own("cant_delete_message")
	if err != nil {
		return nil, err
	}
	ch.remove(m)
	c.touch()
	return object{"channel": m.channel, "ts": m.ts}, nil
}

func postEphemeral(c *call) (object, error) {
	ch := c.channels[c.str("channel")]
	if err := c.postable(ch); err != nil {
		return nil, err
	}
	user := c.str("user")
	if !slices.Contains(ch.Members, user) {
		return nil, fail("user_not_in_channel")
	}
	d, err := c.readDraft()
	if err != nil {
		return nil, err
	}
	m := c.whisper(ch, user, d)
	if m.threadTS, err = c.parentOf(ch); err != nil {
		return nil, err
	}
	return object{"message_ts": m.ts}, nil
}

// maxEphemerals bounds what is remembered of messages only one person sees.
const maxEphemerals = 1000

// whisper shows a message to one person.
func (s *Server) whisper(ch *channel, user string, d draft) *message {
	m := &message{
		channel: ch.ID, ts: ch.nextTS(s.now()), user: s.cfg.BotUserID,
		text: truncateText(d.text), blocks: d.blocks, ephemeralTo: user,
	}
	s.ephemerals = lastOf(append(s.ephemerals, m), maxEphemerals)
	s.touch()
	return m
}

// lastOf returns the newest n of list.
func lastOf[T any](list []T, n int) []T {
	return list[max(0, len(list)-n):]
}

func getPermalink(c *call) (object, error) {
	ch := c.channels[c.str("channel")]
	if ch == nil {
		return nil, fail("channel_not_found")
	}
	m := ch.byTS[c.str("message_ts")]
	if m == nil {
		return nil, fail("message_not_found")
	}
	return object{"channel": ch.ID, "permalink": c.permalink(m)}, nil
}

func (s *Server) permalink(m *message) string {
	link := fmt.Sprintf("https://%s.slack.com/archives/%s/p%s", s.cfg.TeamDomain, m.channel, strings.Replace(m.ts, ".", "", 1))
	if m.threadTS != "" {
		link += "?thread_ts=" + m.threadTS + "&cid=" + m.channel
	}
	return link
}
