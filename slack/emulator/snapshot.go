package emulator

import (
	"context"
	"fmt"
	"regexp"
	"slices"
)

// Message is a message as the people who can see it read it.
type Message struct {
	Channel  string `json:"channel"`
	TS       string `json:"ts"`
	ThreadTS string `json:"thread_ts,omitempty"` // the parent's ts in replies, "" elsewhere
	User     string `json:"user"`
	// Text is all that is shown, as plain text with a line per paragraph: mentions as @name,
	// links as their label, dates as their fallback, buttons as [label].
	Text string `json:"text"`
	// Summary is the top-level text as plain text: what notifications and screen readers say.
	Summary string `json:"summary"`
	// Parts is the same as Text with its looks.
	Parts []Part `json:"parts"`
	// Buttons are the buttons in the order they are shown.
	Buttons []Element `json:"buttons"`
	// EphemeralTo is the one person who sees the message, "" when everybody does.
	EphemeralTo string `json:"ephemeral_to,omitempty"`
	// Broadcast says that a reply also shows in the channel.
	Broadcast bool `json:"broadcast,omitempty"`
	// Revision counts how often the message was updated.
	Revision    int    `json:"revision"`
	Replies     int    `json:"replies,omitempty"`
	Permalink   string `json:"permalink"`
	ClientMsgID string `json:"client_msg_id,omitempty"`
	// Metadata is what the app attached, nil for none.
	Metadata any `json:"metadata,omitempty"`
	// Reactions are the users who reacted, by emoji name.
	Reactions map[string][]string `json:"reactions,omitempty"`
}

// Button returns the button with an action_id, and whether there is one.
func (m Message) Button(actionID string) (Element, bool) {
	i := slices.IndexFunc(m.Buttons, func(e Element) bool { return e.ActionID == actionID })
	if i < 0 {
		return Element{}, false
	}
	return m.Buttons[i], true
}

// View is an open modal or a Home tab as its person sees it.
type View struct {
	ID string `json:"id"`
	// Type is modal or home.
	Type            string `json:"type"`
	User            string `json:"user"`
	CallbackID      string `json:"callback_id"`
	PrivateMetadata string `json:"private_metadata"`
	Hash            string `json:"hash"`
	Title           string `json:"title"`
	Submit          string `json:"submit,omitempty"` // "" when there is no such button
	Close           string `json:"close"`
	// Text is all that is shown between title and buttons, as in Message.
	Text  string `json:"text"`
	Parts []Part `json:"parts"`
	// Buttons are the buttons among the parts, in the order they are shown.
	Buttons []Element `json:"buttons"`
	// Errors are the messages under inputs, by block_id.
	Errors map[string]string `json:"errors,omitempty"`
	// Top says that no other modal is in front of it.
	Top bool `json:"top"`
}

// Button returns the button with an action_id, and whether there is one; of several, as in a
// list, the first.
func (v View) Button(actionID string) (Element, bool) {
	return Message{Buttons: v.Buttons}.Button(actionID)
}

// ChannelView is a channel with the newest of its messages, oldest first.
type ChannelView struct {
	Channel
	Messages []Message `json:"messages"`
}

// Snapshot is the whole workspace at one moment. Snapshots share their messages and
// notifications with one another: read them, and copy what you want to change.
type Snapshot struct {
	// Seq steps with every change; see [Server.Wait].
	Seq             uint64   `json:"seq"`
	TeamID          string   `json:"team_id"`
	TeamName        string   `json:"team_name"`
	TeamDomain      string   `json:"team_domain"`
	BotUserID       string   `json:"bot_user_id"`
	EnterpriseID    string   `json:"enterprise_id,omitempty"`
	BotName         string   `json:"bot_name"`
	InteractionsURL string   `json:"interactions_url"`
	EventsURL       string   `json:"events_url"`
	CommandsURL     string   `json:"commands_url"`
	Commands        []string `json:"commands"`
	SocketMode      bool     `json:"socket_mode"`
	Sockets         int      `json:"sockets"` // connections open now
	Limits          Limits   `json:"limits"`
	// NowMS is the workspace's time in milliseconds since 1970.
	NowMS         int64          `json:"now_ms"`
	Outage        bool           `json:"outage"`
	Faults        []Fault        `json:"faults"`
	Users         []User         `json:"users"`
	Channels      []ChannelView  `json:"channels"`
	UserGroups    []UserGroup    `json:"user_groups"`
	Ephemerals    []Message      `json:"ephemerals"`
	Views         []View         `json:"views"` // modals
	Homes         []View         `json:"homes"` // Home tabs that were published
	Notifications []Notification `json:"notifications"`
	Warnings      []Warning      `json:"warnings"`
}

// Snapshot returns the workspace as it is now, with every message.
func (s *Server) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot(maxMessages)
}

func (s *Server) snapshot(perChannel int) Snapshot {
	out := Snapshot{
		Seq: s.seq, TeamID: s.cfg.TeamID, TeamName: s.cfg.TeamName, TeamDomain: s.cfg.TeamDomain, BotUserID: s.cfg.BotUserID,
		InteractionsURL: s.interactionsURL, Outage: s.outage, Faults: []Fault{}, Users: []User{}, Channels: []ChannelView{},
		UserGroups: []UserGroup{}, Views: []View{}, Homes: []View{}, Ephemerals: s.messageViews(s.ephemerals),
		Notifications: slices.Clip(s.notifications), Warnings: append([]Warning{}, s.warnings...),
		EnterpriseID: s.cfg.EnterpriseID, BotName: s.cfg.BotName, EventsURL: s.eventsURL, CommandsURL: s.commandsURL,
		Commands: nonNil(s.cfg.Commands), SocketMode: s.socketMode, Sockets: len(s.sockets), Limits: s.limits, NowMS: s.now().UnixMilli(),
	}
	if out.Notifications == nil {
		out.Notifications = []Notification{}
	}
	for _, f := range s.faults {
		out.Faults = append(out.Faults, *f)
	}
	for _, id := range s.userOrder {
		out.Users = append(out.Users, *s.users[id])
	}
	for _, id := range s.channelOrder {
		out.Channels = append(out.Channels, s.channelView(s.channels[id], perChannel))
	}
	for _, id := range s.groupOrder {
		g := *s.groups[id]
		g.Members = nonNil(g.Members)
		out.UserGroups = append(out.UserGroups, g)
	}
	for _, id := range s.userOrder {
		out.Views = append(out.Views, s.viewsOf(id)...)
		if home := s.homes[id]; home != nil {
			out.Homes = append(out.Homes, s.viewView(home))
		}
	}
	return out
}

func (s *Server) channelView(ch *channel, newest int) ChannelView {
	v := ChannelView{Channel: ch.Channel, Messages: lastOf(s.messagesOf(ch), newest)}
	v.Members = nonNil(v.Members)
	return v
}

// messagesOf returns a channel's messages as people see them. Only what is new or has changed
// since the last time is drawn, so that watching a channel does not cost more the longer it
// gets.
func (s *Server) messagesOf(ch *channel) []Message {
	if ch.epoch != s.renderEpoch {
		ch.shown, ch.epoch = nil, s.renderEpoch
	}
	if ch.dirty {
		ch.shown = slices.Clone(ch.shown) // the old one is in somebody's snapshot
		for i := range ch.shown {
			if ch.messages[i].stale {
				ch.shown[i] = s.messageView(ch.messages[i])
			}
		}
		ch.dirty = false
	}
	for _, m := range ch.messages[len(ch.shown):] {
		ch.shown = append(ch.shown, s.messageView(m))
	}
	if ch.shown == nil {
		return []Message{}
	}
	return slices.Clip(ch.shown)
}

func (s *Server) messageViews(ms []*message) []Message {
	out := make([]Message, 0, len(ms))
	for _, m := range ms {
		out = append(out, s.messageView(m))
	}
	return out
}

func (s *Server) messageView(m *message) Message {
	m.stale = false
	r := s.render(m)
	v := Message{
		Channel: m.channel, TS: m.ts, ThreadTS: m.threadTS, User: m.user, Text: r.text, Summary: r.summary, Parts: r.parts,
		Buttons: buttons(r.parts), EphemeralTo: m.ephemeralTo, Broadcast: m.broadcast, Revision: m.revision,
		Permalink: s.permalink(m), ClientMsgID: m.clientMsgID, Metadata: m.metadata,
	}
	if m.in != nil {
		v.Replies = len(m.in.replies(m.ts))
	}
	if len(m.reactions) > 0 {
		v.Reactions = map[string][]string{}
		for name, users := range m.reactions {
			v.Reactions[name] = slices.Clone(users)
		}
	}
	return v
}

// buttons are the buttons among some parts.
func buttons(parts []Part) []Element {
	out := []Element{}
	for _, p := range parts {
		for _, e := range p.Elements {
			if e.Type == "button" {
				out = append(out, e)
			}
		}
	}
	return out
}

func (s *Server) viewsOf(user string) []View {
	stack := s.stacks[user]
	out := make([]View, 0, len(stack))
	for i, v := range stack {
		shown := s.viewView(v)
		shown.Top = i == len(stack)-1
		out = append(out, shown)
	}
	return out
}

func (s *Server) viewView(v *view) View {
	blocks, _ := v.body["blocks"].([]any)
	parts := s.parts(blocks)
	for i := range parts {
		for j := range parts[i].Elements {
			e := &parts[i].Elements[j]
			if held, ok := v.values[e.BlockID][e.ActionID].(object); ok {
				e.Value = heldValue(held)
			}
		}
	}
	closing := s.plain(v.body["close"])
	if closing == "" {
		closing = "Cancel"
	}
	return View{
		ID: v.id, Type: v.surface(), Buttons: buttons(parts), User: v.user, CallbackID: str(v.body, "callback_id"), PrivateMetadata: str(v.body, "private_metadata"), Hash: v.hash,
		Title: s.plain(v.body["title"]), Submit: s.plain(v.body["submit"]), Close: closing,
		Text: plainParts(parts), Parts: parts, Errors: v.errors,
	}
}

// viewByID returns an open modal, or nil.
func (s *Server) viewByID(id string) *View {
	v, ok := s.views[id]
	if !ok {
		return nil
	}
	for _, shown := range s.viewsOf(v.user) {
		if shown.ID == id {
			return &shown
		}
	}
	return nil
}

// Messages returns a channel's messages, oldest first; nil if there is no such channel.
func (s *Server) Messages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, ok := s.channels[channel]
	if !ok {
		return nil
	}
	return s.messagesOf(ch)
}

// DM returns the id of the direct message between the bot and a person, or "" if nobody has
// opened it.
func (s *Server) DM(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.channels {
		if user != "" && c.User == user {
			return c.ID
		}
	}
	return ""
}

// Ephemerals returns the messages that only this person sees, oldest first.
func (s *Server) Ephemerals(user string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var own []*message
	for _, m := range s.ephemerals {
		if m.ephemeralTo == user {
			own = append(own, m)
		}
	}
	return s.messageViews(own)
}

// OpenViews returns a person's open modals, the one in front last.
func (s *Server) OpenViews(user string) []View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewsOf(user)
}

// Notifications returns what rang for a person, oldest first.
func (s *Server) Notifications(user string) []Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	return filter(s.notifications, func(n Notification) bool { return n.User == user })
}

// Warnings returns what a person was warned of, oldest first.
func (s *Server) Warnings(user string) []Warning {
	s.mu.Lock()
	defer s.mu.Unlock()
	return filter(s.warnings, func(w Warning) bool { return w.User == user })
}

func filter[T any](list []T, keep func(T) bool) []T {
	var out []T
	for _, v := range list {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

// Wait returns once want holds, and asks it again after every change. It fails when ctx
// ends or the server is closed. want runs without the server's lock and may call methods.
func (s *Server) Wait(ctx context.Context, want func(Snapshot) bool) error {
	for {
		s.mu.Lock()
		changed, now := s.changed, s.snapshot(maxMessages)
		s.mu.Unlock()
		if want(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the workspace: %w", ctx.Err())
		case <-s.done:
			return fmt.Errorf("wait for the workspace: %w", context.Canceled)
		}
	}
}

// Post lets a person write in a channel, or in a thread if threadTS is not empty, and
// returns the new message's ts.
func (s *Server) Post(user, channel, text, threadTS string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.actor(user); err != nil {
		return "", err
	}
	ch, ok := s.channels[channel]
	switch {
	case !ok:
		return "", fmt.Errorf("%w: channel %s", ErrNotFound, channel)
	case ch.Archived || !slices.Contains(ch.Members, user):
		return "", fmt.Errorf("%w: %s cannot write in %s", ErrNotAllowed, user, channel)
	case text == "":
		return "", fmt.Errorf("%w: an empty message", ErrNotAllowed)
	}
	c := s.botCall()
	c.args = object{"thread_ts": threadTS}
	parent, err := c.parentOf(ch)
	if err != nil {
		return "", fmt.Errorf("%w: thread %s", ErrNotFound, threadTS)
	}
	m := &message{channel: ch.ID, ts: ch.nextTS(c.now), postedAt: c.now, threadTS: parent, user: user, text: truncateText(s.typed(text))}
	s.publish(ch, m)
	return m.ts, nil
}

// Reply lets a person write in a thread; it is Post with the arguments in the order of the
// places they name.
func (s *Server) Reply(user, channel, threadTS, text string) (string, error) {
	return s.Post(user, channel, text, threadTS)
}

var typedMention = regexp.MustCompile(`@[a-z0-9._-]+`)

// typed turns what somebody typed into what Slack's clients send: entities escaped, and
// @names that exist made mentions.
func (s *Server) typed(text string) string {
	return typedMention.ReplaceAllStringFunc(entityEscape.Replace(text), func(name string) string {
		for _, u := range s.users {
			if "@"+u.Name == name {
				return "<@" + u.ID + ">"
			}
		}
		return name
	})
}
