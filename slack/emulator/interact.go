package emulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Errors of the driver: a person cannot do what was asked of them.
var (
	// ErrNotFound means there is no such person, channel, message, modal or button.
	ErrNotFound = errors.New("not found")
	// ErrNotAllowed means it exists, but this person cannot see or use it.
	ErrNotAllowed = errors.New("not allowed")
)

// Action is a person's use of a button, menu or other element.
type Action struct {
	User string `json:"user"`
	// Channel and TS name the message; ViewID names a modal or the Home tab instead.
	Channel string `json:"channel"`
	TS      string `json:"ts"`
	ViewID  string `json:"view_id"`
	// ActionID names the element; BlockID is needed only when several have that ActionID.
	ActionID string `json:"action_id"`
	BlockID  string `json:"block_id"`
	// Value is what was chosen, for elements other than buttons: an option's value (several
	// with commas between) or a user id.
	Value string `json:"value"`
	// Confirm is the answer to the element's confirmation dialog, if it has one. False then
	// means that the person went back and nothing is sent.
	Confirm bool `json:"confirm"`
}

// Seen is what a person saw come of what they did.
type Seen struct {
	// Sent says whether the app was told at all.
	Sent bool `json:"sent"`
	// AckMS is how long the app took to answer, in milliseconds.
	AckMS int64 `json:"ack_ms"`
	// Warning is what Slack showed because the app failed to answer well; "" if it did not.
	Warning string `json:"warning"`
	// OpenedView is the modal that stood open because of this, if any.
	OpenedView *View `json:"opened_view"`
	// Errors are the messages under the inputs of a modal, by block_id.
	Errors map[string]string `json:"errors,omitempty"`
	// Closed says that the modal that was submitted or closed is gone.
	Closed bool `json:"closed,omitempty"`
	// Message is what the answer to a command said, if anything.
	Message *Message `json:"message,omitempty"`
}

// Click presses a button of a message that the person can see. It returns once the app has
// answered or the time for that is over.
func (s *Server) Click(ctx context.Context, user, channel, ts, actionID string, confirm bool) (Seen, error) {
	return s.Do(ctx, Action{User: user, Channel: channel, TS: ts, ActionID: actionID, Confirm: confirm})
}

// Do performs an action and returns what the person saw.
func (s *Server) Do(ctx context.Context, a Action) (Seen, error) {
	p, err := s.press(a)
	if err != nil || p.sealed == "" {
		return Seen{}, err
	}
	answer := s.send(ctx, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := Seen{Sent: true, AckMS: answer.took.Milliseconds()}
	seen.Warning = s.settle(p.place, notResponding(s.cfg.BotName), answer.problem())
	if t := s.triggers[p.trigger]; t != nil {
		seen.OpenedView = s.viewByID(t.opened)
	}
	return seen, nil
}

// Payload returns the JSON that performing the action would send, for tests that tamper
// with it. It is nil when nothing would be sent.
func (s *Server) Payload(a Action) ([]byte, error) {
	p, err := s.press(a)
	if err != nil || p.sealed == "" {
		return nil, err
	}
	return []byte(p.sealed), nil
}

func notResponding(app string) string { return app + " is not responding. Please try again." }

// pressed is an interaction ready to be sent; sealed is "" if the person went back.
type pressed struct {
	kind    string
	payload object
	sealed  string // payload as JSON, made while the lock is held
	trigger string
	place   Warning
}

func (p pressed) seal() pressed {
	p.sealed = encode(p.payload)
	return p
}

func (s *Server) press(a Action) (pressed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(a.User)
	if err != nil {
		return pressed{}, err
	}
	if a.ViewID != "" {
		return s.pressInView(u, a)
	}
	return s.pressInMessage(u, a)
}

func (s *Server) pressInMessage(u *User, a Action) (pressed, error) {
	ch, m, err := s.visible(u.ID, a.Channel, a.TS)
	if err != nil {
		return pressed{}, err
	}
	el, block, err := findElement(m.blocks, a)
	if err != nil {
		return pressed{}, err
	}
	if el["confirm"] != nil && !a.Confirm {
		return pressed{}, nil
	}
	act, err := s.actionOf(el, block, a.Value)
	if err != nil {
		return pressed{}, err
	}
	m.choose(u.ID, block, a.ActionID, act)
	p := s.interaction("block_actions", u, "")
	s.describeMessage(p.payload, ch, m, u.ID)
	p.payload["actions"] = []any{act}
	p.place = Warning{User: u.ID, Channel: ch.ID, TS: m.ts, ActionID: a.ActionID}
	return p.seal(), nil
}

func (s *Server) pressInView(u *User, a Action) (pressed, error) {
	v, err := s.shownView(u.ID, a.ViewID)
	if err != nil {
		return pressed{}, err
	}
	blocks, _ := v.body["blocks"].([]any)
	el, block, err := findElement(blocks, a)
	if err != nil {
		return pressed{}, err
	}
	if el["confirm"] != nil && !a.Confirm {
		return pressed{}, nil
	}
	act, err := s.actionOf(el, block, a.Value)
	if err != nil {
		return pressed{}, err
	}
	if el["type"] != "button" && el["type"] != "overflow" {
		chosen, _ := chosen(el, a.Value)
		v.set(field{block: block, action: a.ActionID}, chosen)
	}
	p := s.interaction("block_actions", u, v.stacked())
	p.payload["container"] = object{"type": "view", "view_id": v.id}
	p.payload["view"], p.payload["actions"] = s.wireView(v), []any{act}
	p.place = Warning{User: u.ID, ViewID: v.id, ActionID: a.ActionID}
	return p.seal(), nil
}

// interaction begins a payload with what every kind has.
func (s *Server) interaction(kind string, u *User, viewID string) pressed {
	id := s.newTrigger(u.ID, viewID)
	return pressed{kind: kind, trigger: id, payload: object{
		"type": kind, "api_app_id": s.cfg.AppID, "token": "deprecated", "trigger_id": id,
		"user": object{"id": u.ID, "username": u.Name, "name": u.Name, "team_id": u.TeamID},
		"team": object{"id": s.cfg.TeamID, "domain": s.cfg.TeamDomain}, "enterprise": s.enterprise(), "is_enterprise_install": s.cfg.OrgInstall,
	}}
}

// describeMessage says in a payload which message it is about.
func (s *Server) describeMessage(payload object, ch *channel, m *message, user string) {
	container := object{"type": "message", "message_ts": m.ts, "channel_id": ch.ID, "is_ephemeral": m.ephemeralTo != ""}
	if m.threadTS != "" {
		container["thread_ts"] = m.threadTS
	}
	payload["container"] = container
	payload["channel"] = object{"id": ch.ID, "name": ch.payloadName()}
	payload["state"] = object{"values": m.stateOf(user)}
	payload["response_url"] = s.newResponseURL(user, m.channel, m.ts)
	if m.ephemeralTo == "" {
		payload["message"] = s.wire(m, false)
	}
}

// visible finds a message that a person has on their screen.
func (s *Server) visible(user, channelID, ts string) (*channel, *message, error) {
	ch, ok := s.channels[channelID]
	if !ok {
		return nil, nil, fmt.Errorf("%w: channel %s", ErrNotFound, channelID)
	}
	i := slices.IndexFunc(s.ephemerals, func(m *message) bool {
		return m.channel == channelID && m.ts == ts && m.ephemeralTo == user
	})
	if i >= 0 {
		return ch, s.ephemerals[i], nil
	}
	switch m := ch.byTS[ts]; {
	case m == nil:
		return nil, nil, fmt.Errorf("%w: message %s in %s", ErrNotFound, ts, channelID)
	case !s.canSee(user, ch):
		return nil, nil, fmt.Errorf("%w: %s is not in %s", ErrNotAllowed, user, channelID)
	default:
		return ch, m, nil
	}
}

// findElement finds the element an action is about, and its block's id.
func findElement(blocks []any, a Action) (el object, block string, err error) {
	for _, b := range blocks {
		o, _ := b.(object)
		id, _ := o["block_id"].(string)
		if a.BlockID != "" && a.BlockID != id {
			continue
		}
		for _, el := range interactive(o) {
			if el["action_id"] == a.ActionID {
				return el, id, nil
			}
		}
	}
	return nil, "", fmt.Errorf("%w: nothing there has action_id %q", ErrNotFound, a.ActionID)
}

// actionOf returns the entry of the payload's actions.
func (s *Server) actionOf(el object, block, value string) (object, error) {
	now := s.now()
	act := object{
		"type": el["type"], "action_id": el["action_id"], "block_id": block,
		"action_ts": fmt.Sprintf("%d.%06d", now.Unix(), now.Nanosecond()/1000),
	}
	if el["type"] != "button" {
		picked, err := chosen(el, value)
		for k, v := range picked {
			act[k] = v
		}
		return act, err
	}
	for _, k := range []string{"text", "value", "style", "url"} {
		if el[k] != nil {
			act[k] = el[k]
		}
	}
	return act, nil
}

// choose keeps what a person chose in a message, for the state of later payloads.
func (m *message) choose(user, block, action string, act object) {
	if act["type"] == "button" || act["type"] == "overflow" {
		return
	}
	key := holdings[str(act, "type")].key
	kept := object{"type": act["type"], key: act[key]}
	values := m.stateOf(user)
	inBlock, _ := values[block].(object)
	if inBlock == nil {
		inBlock = object{}
	}
	inBlock[action], values[block] = kept, inBlock
	if m.state == nil {
		m.state = map[string]object{}
	}
	m.state[user] = values
}

func (m *message) stateOf(user string) object {
	if values := m.state[user]; values != nil {
		return values
	}
	return object{}
}
