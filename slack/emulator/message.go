package emulator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxMessages bounds what a channel remembers; the oldest messages go first.
const maxMessages = 10_000

// channel is a Channel with its messages, oldest first.
type channel struct {
	Channel
	messages []*message
	byTS     map[string]*message
	threads  map[string][]*message // replies by the parent's ts
	lastTS   int64                 // microseconds

	// shown are the messages as people see them, as far as they are known to be current: the
	// first len(shown) of messages. Snapshots share it and so it is never written to in
	// place.
	shown []Message
	epoch uint64 // the renderEpoch of shown
	dirty bool   // some of shown's messages are stale
}

func newChannel(c Channel) *channel {
	return &channel{Channel: c, byTS: map[string]*message{}, threads: map[string][]*message{}}
}

// message is one message as the workspace holds it.
type message struct {
	channel     string
	in          *channel
	ts          string
	threadTS    string // the parent's ts in replies, "" elsewhere
	user        string
	text        string
	blocks      []any
	metadata    any
	clientMsgID string
	broadcast   bool
	ephemeralTo string // "" for messages everybody sees
	revision    int
	postedAt    time.Time
	reactions   map[string][]string
	state       map[string]object // per user: block_id → action_id → what is chosen

	rendered *rendered
	epoch    uint64
	stale    bool // shown differently than channel.shown has it
}

// nextTS returns a message timestamp that is later than every other in the channel.
func (c *channel) nextTS(now time.Time) string {
	c.lastTS = max(now.UnixMicro(), c.lastTS+1)
	return fmt.Sprintf("%d.%06d", c.lastTS/1e6, c.lastTS%1e6)
}

func (c *channel) add(m *message) {
	m.in = c
	c.messages = append(c.messages, m)
	c.byTS[m.ts] = m
	if m.threadTS != "" {
		c.threads[m.threadTS] = append(c.threads[m.threadTS], m)
		c.byTS[m.threadTS].changed() // it counts its replies
	}
	if len(c.messages) > maxMessages {
		c.forgetOldest()
	}
}

func (c *channel) forgetOldest() {
	m := c.messages[0]
	delete(c.byTS, m.ts)
	if thread := c.threads[m.threadTS]; m.threadTS != "" && len(thread) > 0 {
		c.threads[m.threadTS] = thread[1:]
	}
	c.messages = c.messages[1:]
	if len(c.shown) > 0 {
		c.shown = c.shown[1:]
	}
}

func (c *channel) remove(m *message) {
	delete(c.byTS, m.ts)
	i := slices.Index(c.messages, m)
	c.messages = slices.Delete(slices.Clone(c.messages), i, i+1)
	c.shown = nil
	if m.threadTS != "" {
		c.threads[m.threadTS] = slices.DeleteFunc(slices.Clone(c.threads[m.threadTS]), func(o *message) bool { return o == m })
	}
}

// rename gives the channel and its messages another id.
func (c *channel) rename(id string) {
	c.ID = id
	for _, m := range c.messages {
		m.channel = id
	}
	c.shown = nil
}

// replies returns the replies to a message, oldest first.
func (c *channel) replies(ts string) []*message { return c.threads[ts] }

// changed says that a message looks different now. Snapshots keep what they have.
func (m *message) changed() {
	if m == nil {
		return
	}
	m.stale = true
	if m.in != nil {
		m.in.dirty = true
	}
}

// edit puts new content in place and drops the rendering made of the old.
func (m *message) edit(text string, blocks []any) {
	m.text, m.blocks = text, blocks
	m.revision++
	m.rendered = nil
	m.changed()
}

func (m *message) hasRichText() bool { return anyRichText(m.blocks) }

func anyRichText(blocks []any) bool {
	return slices.ContainsFunc(blocks, func(b any) bool {
		o, _ := b.(object)
		return o["type"] == "rich_text"
	})
}

// wire returns the message as the Web API and payloads carry it.
func (s *Server) wire(m *message, withMetadata bool) object {
	o := object{"type": "message", "ts": m.ts, "user": m.user, "text": m.text, "team": s.cfg.TeamID}
	if m.user == s.cfg.BotUserID {
		o["bot_id"], o["app_id"] = s.cfg.BotID, s.cfg.AppID
		o["bot_profile"] = object{"id": s.cfg.BotID, "app_id": s.cfg.AppID, "name": s.cfg.BotName, "team_id": s.cfg.TeamID, "deleted": false}
	}
	if len(m.blocks) > 0 {
		o["blocks"] = m.blocks
	}
	if len(m.reactions) > 0 {
		o["reactions"] = wireReactions(m.reactions)
	}
	if m.revision > 0 && m.user == s.cfg.BotUserID && len(m.blocks) == 0 {
		o["edited"] = object{"user": m.user, "ts": m.ts}
	}
	if m.clientMsgID != "" {
		o["client_msg_id"] = m.clientMsgID
	}
	if m.metadata != nil && withMetadata {
		o["metadata"] = m.metadata
	}
	s.wireThread(m, o)
	return o
}

func wireReactions(reactions map[string][]string) []object {
	out := make([]object, 0, len(reactions))
	for _, name := range slices.Sorted(maps.Keys(reactions)) {
		out = append(out, object{"name": name, "users": reactions[name], "count": len(reactions[name])})
	}
	return out
}

// wireThread adds what ties a message to its thread.
func (s *Server) wireThread(m *message, o object) {
	if m.threadTS != "" {
		o["thread_ts"] = m.threadTS
		if m.broadcast {
			o["subtype"] = "thread_broadcast"
		}
		return
	}
	ch, ok := s.channels[m.channel]
	if !ok || m.ephemeralTo != "" {
		return
	}
	if rs := ch.replies(m.ts); len(rs) > 0 {
		o["thread_ts"], o["reply_count"], o["latest_reply"] = m.ts, len(rs), rs[len(rs)-1].ts
	}
}

// draft is what chat.postMessage, chat.postEphemeral and response_urls have in common.
type draft struct {
	text   string
	blocks []any
}

// readDraft reads and checks text and blocks.
func (c *call) readDraft() (draft, error) {
	d := draft{text: cmp.Or(c.str("text"), c.str("markdown_text"))}
	v, given, err := c.structured("blocks")
	switch {
	case err != nil:
		return d, fail("invalid_blocks_format")
	case given:
		if d.blocks, err = checkMessageBlocks(v); err != nil {
			return d, err
		}
	}
	if strings.TrimSpace(d.text) == "" && len(d.blocks) == 0 && c.args["attachments"] == nil {
		return d, fail("no_text")
	}
	d.blocks = c.withIDs(d.blocks)
	return d, nil
}

// truncateText cuts text where Slack does when a message is posted.
func truncateText(text string) string {
	const high = 40_000
	if r := []rune(text); len(r) > high {
		return string(r[:high])
	}
	return text
}

// withIDs gives blocks and elements the ids Slack makes up when the app leaves them out.
func (s *Server) withIDs(blocks []any) []any {
	for _, b := range blocks {
		o, ok := b.(object)
		if !ok {
			continue
		}
		s.ensureID(o, "block_id")
		for _, el := range interactive(o) {
			s.ensureID(el, "action_id")
		}
	}
	return blocks
}

func (s *Server) ensureID(o object, field string) {
	if id, _ := o[field].(string); id == "" {
		o[field] = s.nextID("")[:5]
	}
}

// interactive returns the elements of a block that a person can use.
func interactive(b object) []object {
	var found []object
	keep := func(v any) {
		if el, ok := v.(object); ok && el["type"] != "image" {
			found = append(found, el)
		}
	}
	switch b["type"] {
	case "actions":
		items, _ := b["elements"].([]any)
		for _, el := range items {
			keep(el)
		}
	case "section":
		keep(b["accessory"])
	case "input":
		keep(b["element"])
	}
	return found
}
