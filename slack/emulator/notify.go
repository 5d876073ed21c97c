package emulator

import "slices"

// Notification is something that made a person's Slack ring.
type Notification struct {
	User    string `json:"user"`
	Channel string `json:"channel"`
	TS      string `json:"ts"`
	// Reason is dm, mention, group, broadcast or thread.
	Reason string `json:"reason"`
	// Text is what the banner says: the message's top-level text, else its blocks' text.
	Text string `json:"text"`
}

// Warning is something Slack told a person because the app failed to answer well.
type Warning struct {
	User     string `json:"user"`
	Channel  string `json:"channel,omitempty"`
	TS       string `json:"ts,omitempty"`
	ViewID   string `json:"view_id,omitempty"`
	ActionID string `json:"action_id,omitempty"`
	// Command is the slash command that failed.
	Command string `json:"command,omitempty"`
	// Text is what the person read.
	Text string `json:"text"`
	// Detail is the cause, which Slack keeps to itself.
	Detail string `json:"detail"`
	// Current is false once a later act in the same place went well.
	Current bool `json:"current"`
}

// maxNotes bounds how many notifications and how many warnings are remembered.
const maxNotes = 5000

// notify rings for the people a new message concerns. Updates never ring, as in Slack.
func (s *Server) notify(ch *channel, m *message) {
	rung := map[string]bool{m.user: true}
	r := s.render(m)
	ring := func(user, reason string) {
		u, ok := s.users[user]
		if ok && !rung[user] && !u.IsBot && !u.Deleted && slices.Contains(ch.Members, user) {
			rung[user] = true
			text := r.summary
			if text == "" {
				text = r.text
			}
			s.notifications = append(s.notifications, Notification{User: user, Channel: ch.ID, TS: m.ts, Reason: reason, Text: text})
		}
	}
	if ch.isIM() {
		ring(ch.User, "dm")
	}
	s.mentions(r, ch, ring)
	if m.threadTS != "" {
		s.followers(ch, m.threadTS, ring)
	}
	s.notifications = lastOf(s.notifications, maxNotes)
}

// mentions rings for everybody a message names, in its blocks if it has any.
func (s *Server) mentions(r *rendered, ch *channel, ring func(user, reason string)) {
	for _, p := range r.parts {
		for _, piece := range slices.Concat(append([][]Piece{p.Flow}, p.Fields...)...) {
			for _, sp := range piece.Spans {
				switch sp.Kind {
				case "user":
					ring(sp.ID, "mention")
				case "usergroup":
					s.ringGroup(sp.ID, ring)
				case "broadcast":
					each(ch.Members, "broadcast", ring)
				}
			}
		}
	}
}

func (s *Server) ringGroup(id string, ring func(user, reason string)) {
	if g, ok := s.groups[id]; ok && !g.Disabled {
		each(g.Members, "group", ring)
	}
}

func each(users []string, reason string, ring func(user, reason string)) {
	for _, u := range users {
		ring(u, reason)
	}
}

// followers rings for those who wrote in a thread or were named in its first message.
func (s *Server) followers(ch *channel, parent string, ring func(user, reason string)) {
	first := ch.byTS[parent]
	if first == nil {
		return
	}
	inThread := func(user, _ string) { ring(user, "thread") }
	inThread(first.user, "")
	s.mentions(s.render(first), ch, inThread)
	for _, m := range ch.replies(parent) {
		inThread(m.user, "")
	}
}

// settle records what came of an act: problem is "" when all went well. It returns the
// warning the person saw, if any.
func (s *Server) settle(place Warning, text, problem string) string {
	for i, w := range s.warnings {
		if w.User == place.User && w.Channel == place.Channel && w.TS == place.TS && w.ViewID == place.ViewID && w.Command == place.Command {
			s.warnings[i].Current = false
		}
	}
	if problem != "" {
		place.Text, place.Detail, place.Current = text, problem, true
		s.warnings = lastOf(append(s.warnings, place), maxNotes)
	}
	s.touch()
	return place.Text
}
