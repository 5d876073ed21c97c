package emulator

import (
	"fmt"
	"time"
)

const (
	maxStack       = 3
	triggerLife    = 3 * time.Second
	maxKeptTrigger = 1000
)

// view is one open modal, or a person's Home tab.
type view struct {
	id, user, hash, root, previous string
	home                           bool
	body                           object
	values                         map[string]object // block_id → action_id → what is entered
	errors                         map[string]string // block_id → what the person is told
}

// trigger is a person's act that lets the app open one modal for them soon after.
type trigger struct {
	user    string
	view    string // the modal it was pulled in, "" for a message
	expires time.Time
	used    bool
	opened  string // the view it was exchanged for
}

// newTrigger makes the trigger_id of an interaction that is sent now.
func (s *Server) newTrigger(user, viewID string) string {
	now := s.now()
	if len(s.triggers) >= maxKeptTrigger {
		for id, t := range s.triggers {
			if now.After(t.expires) {
				delete(s.triggers, id)
			}
		}
	}
	id := s.nextTrigger()
	s.triggers[id] = &trigger{user: user, view: viewID, expires: now.Add(triggerLife)}
	return id
}

// exchange spends the trigger_id of a call.
func (c *call) exchange() (*trigger, error) {
	t := c.triggers[c.str("trigger_id")]
	switch {
	case t == nil:
		return nil, fail("invalid_trigger_id")
	case t.used:
		return nil, fail("exchanged_trigger_id")
	case c.now.After(t.expires):
		return nil, fail("expired_trigger_id")
	}
	t.used = true
	return t, nil
}

// stacked is the id of a modal, and "" for the Home tab, onto which nothing can be pushed.
func (v *view) stacked() string {
	if v.home {
		return ""
	}
	return v.id
}

// readView returns the view argument; it has yet to be checked.
func (c *call) readView() (any, error) {
	v, given, err := c.structured("view")
	switch {
	case err != nil:
		return nil, invalid("invalid_arguments", []string{"must be valid JSON [json-pointer:/view]"})
	case !given:
		return nil, invalid("invalid_arguments", []string{"missing required field: view [json-pointer:]"})
	}
	return v, nil
}

// prepareView checks a view, whether it came by a call or in an acknowledgement.
func (s *Server) prepareView(v any, surface string) (object, error) {
	o, err := checkView(v, len(encode(v)), surface)
	if err != nil {
		return nil, err
	}
	blocks, _ := o["blocks"].([]any)
	o["blocks"] = s.withIDs(blocks)
	return o, nil
}

func (c *call) freeExternalID(o object, self *view) error {
	id, _ := o["external_id"].(string)
	for _, v := range c.views {
		if id != "" && v != self && v.body["external_id"] == id {
			return fail("duplicate_external_id")
		}
	}
	return nil
}

func openView(c *call) (object, error) {
	return c.show(func(t *trigger) error {
		c.closeAll(t.user)
		return nil
	})
}

func pushView(c *call) (object, error) {
	return c.show(func(t *trigger) error {
		stack := c.stacks[t.user]
		switch {
		case len(stack) == 0 || t.view == "":
			return fail("not_found")
		case len(stack) >= maxStack:
			return fail("push_limit_reached")
		}
		return nil
	})
}

// show puts the view argument on the stack of the person who pulled the trigger.
func (c *call) show(before func(*trigger) error) (object, error) {
	v, err := c.readView()
	if err != nil {
		return nil, err
	}
	body, err := c.prepareView(v, "modal")
	if err != nil {
		return nil, err
	}
	if err := c.freeExternalID(body, nil); err != nil {
		return nil, err
	}
	t, err := c.exchange()
	if err != nil {
		return nil, err
	}
	if err := before(t); err != nil {
		return nil, err
	}
	opened := c.push(t.user, body)
	t.opened = opened.id
	return object{"view": c.wireView(opened)}, nil
}

// push opens a modal on top of a person's stack.
func (s *Server) push(user string, body object) *view {
	v := &view{id: s.nextID("V"), user: user, values: map[string]object{}}
	v.root = v.id
	if stack := s.stacks[user]; len(stack) > 0 {
		v.root, v.previous = stack[0].id, stack[len(stack)-1].id
	}
	s.views[v.id] = v
	s.stacks[user] = append(s.stacks[user], v)
	s.fill(v, body)
	return v
}

// fill gives a view new content; what was entered stays where block_id and action_id do.
func (s *Server) fill(v *view, body object) {
	kept := v.values
	v.body, v.errors, v.values = body, nil, map[string]object{}
	v.hash = fmt.Sprintf("%d.%s", s.now().Unix(), s.nextID("")[:8])
	for _, f := range v.fields() {
		chosen, ok := kept[f.block][f.action].(object)
		if !ok || chosen["type"] != f.el["type"] {
			chosen = initialValue(f.el)
		}
		v.set(f, chosen)
	}
	s.touch()
}

func (v *view) set(f field, chosen object) {
	if v.values[f.block] == nil {
		v.values[f.block] = object{}
	}
	v.values[f.block][f.action] = chosen
}

func updateView(c *call) (object, error) {
	given, err := c.readView()
	if err != nil {
		return nil, err
	}
	v := c.findView()
	if v == nil {
		return nil, fail("not_found")
	}
	body, err := c.prepareView(given, v.surface())
	if err != nil {
		return nil, err
	}
	if hash := c.str("hash"); hash != "" && hash != v.hash {
		return nil, fail("hash_conflict")
	}
	if err := c.freeExternalID(body, v); err != nil {
		return nil, err
	}
	c.fill(v, body)
	return object{"view": c.wireView(v)}, nil
}

func (v *view) surface() string {
	if v.home {
		return "home"
	}
	return "modal"
}

func (c *call) findView() *view {
	if id := c.str("view_id"); id != "" {
		return c.views[id]
	}
	for _, v := range c.views {
		if id := c.str("external_id"); id != "" && v.body["external_id"] == id {
			return v
		}
	}
	return nil
}

// closeTop takes the top modal off a person's stack.
func (s *Server) closeTop(user string) {
	stack := s.stacks[user]
	if len(stack) == 0 {
		return
	}
	delete(s.views, stack[len(stack)-1].id)
	s.stacks[user] = stack[:len(stack)-1]
	s.touch()
}

func (s *Server) closeAll(user string) {
	for len(s.stacks[user]) > 0 {
		s.closeTop(user)
	}
}

// wireView returns a view as the Web API and payloads carry it.
func (s *Server) wireView(v *view) object {
	o := object{
		"id": v.id, "team_id": s.cfg.TeamID, "app_id": s.cfg.AppID, "bot_id": s.cfg.BotID, "app_installed_team_id": s.cfg.TeamID,
		"hash": v.hash, "root_view_id": v.root, "previous_view_id": orNull(v.previous), "state": object{"values": v.values},
		"private_metadata": "", "callback_id": "", "external_id": "", "clear_on_close": false, "notify_on_close": false,
		"submit": nil, "close": nil,
	}
	for k, val := range v.body {
		o[k] = val
	}
	return o
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// field is an element of a view that holds something a person enters.
type field struct {
	block, action string
	input         bool // stands in an input block
	optional      bool
	el            object
}

// fields returns what a person can enter, in the order of the blocks.
func (v *view) fields() []field {
	var out []field
	blocks, _ := v.body["blocks"].([]any)
	for _, b := range blocks {
		o, _ := b.(object)
		block, _ := o["block_id"].(string)
		optional, _ := o["optional"].(bool)
		for _, el := range interactive(o) {
			if el["type"] == "button" || el["type"] == "overflow" {
				continue
			}
			action, _ := el["action_id"].(string)
			out = append(out, field{block: block, action: action, input: o["type"] == "input", optional: optional, el: el})
		}
	}
	return out
}
