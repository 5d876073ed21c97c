package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// troubleConnecting is what Slack shows in a modal whatever went wrong with an answer.
const troubleConnecting = "We had some trouble connecting. Try again?"

// SubmitView enters values (block_id → action_id → text, option value or user id) into the
// top modal of a person and presses its submit button. As in Slack's own clients, required
// fields and lengths are checked first, and nothing is sent if they do not hold.
func (s *Server) SubmitView(ctx context.Context, user, viewID string, values map[string]map[string]string) (Seen, error) {
	p, refused, err := s.prepareSubmit(user, viewID, values)
	if err != nil || refused != nil {
		return Seen{Errors: refused}, err
	}
	answer := s.send(ctx, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settleSubmit(p, answer), nil
}

func (s *Server) prepareSubmit(user, viewID string, values map[string]map[string]string) (p pressed, refused map[string]string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(user)
	if err != nil {
		return p, nil, err
	}
	v, err := s.topView(user, viewID)
	if err != nil {
		return p, nil, err
	}
	if v.body["submit"] == nil {
		return p, nil, fmt.Errorf("%w: the modal has no submit button", ErrNotAllowed)
	}
	if err := v.enter(values); err != nil {
		return p, nil, err
	}
	v.errors = v.clientErrors()
	s.touch()
	if len(v.errors) > 0 {
		return p, v.errors, nil
	}
	p = s.interaction("view_submission", u, v.id)
	p.payload["view"], p.payload["response_urls"] = s.wireView(v), []any{}
	p.place = Warning{User: user, ViewID: v.id}
	return p.seal(), nil, nil
}

// topView finds the modal in front of a person.
func (s *Server) topView(user, viewID string) (*view, error) {
	stack := s.stacks[user]
	if len(stack) == 0 || s.views[viewID] == nil {
		return nil, fmt.Errorf("%w: view %s", ErrNotFound, viewID)
	}
	if top := stack[len(stack)-1]; top.id == viewID {
		return top, nil
	}
	return nil, fmt.Errorf("%w: view %s is not in front of %s", ErrNotAllowed, viewID, user)
}

// shownView finds a view a person can act in: their Home tab or the modal in front of them.
func (s *Server) shownView(user, viewID string) (*view, error) {
	if home := s.homes[user]; home != nil && home.id == viewID && len(s.stacks[user]) == 0 {
		return home, nil
	}
	return s.topView(user, viewID)
}

// enter types and chooses; fields that values does not name keep what they hold.
func (v *view) enter(values map[string]map[string]string) error {
	fields := v.fields()
	for block, actions := range values {
		for action, value := range actions {
			i := slices.IndexFunc(fields, func(f field) bool { return f.block == block && f.action == action })
			if i < 0 {
				return fmt.Errorf("%w: field %s/%s", ErrNotFound, block, action)
			}
			c, err := chosen(fields[i].el, value)
			if err != nil {
				return err
			}
			v.set(fields[i], c)
		}
	}
	return nil
}

// clientErrors is what Slack's clients check before they submit.
func (v *view) clientErrors() map[string]string {
	problems := map[string]string{}
	for _, f := range v.fields() {
		if held, ok := v.values[f.block][f.action].(object); ok && f.input {
			if problem := f.problem(held); problem != "" {
				problems[f.block] = problem
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

func (f field) problem(held object) string {
	value, _ := held["value"].(string)
	n := utf8.RuneCountInString(value)
	low, _ := f.el["min_length"].(float64)
	high, _ := f.el["max_length"].(float64)
	switch {
	case isEmpty(held) && !f.optional:
		return "Please complete this required field."
	case n > 0 && n < int(low):
		return fmt.Sprintf("Please use at least %d characters.", int(low))
	case high > 0 && n > int(high):
		return fmt.Sprintf("Please use at most %d characters.", int(high))
	case n > 0 && !f.fits(value):
		return "Please enter a valid value."
	default:
		return ""
	}
}

// fits says whether a text is what an input of its type takes.
func (f field) fits(value string) bool {
	form := holdings[str(f.el, "type")].form
	return form == nil || form.MatchString(value)
}

func isEmpty(held object) bool {
	for k, v := range held {
		items, isList := v.([]any)
		if k != "type" && v != nil && (!isList || len(items) > 0) {
			return false
		}
	}
	return true
}

// submitAnswer is the body an app may answer a submission with.
type submitAnswer struct {
	Action string            `json:"response_action"`
	Errors map[string]string `json:"errors"`
	View   any               `json:"view"`
}

// settleSubmit does to the modals what the app's answer says.
func (s *Server) settleSubmit(p pressed, a ack) Seen {
	seen := Seen{Sent: true, AckMS: a.took.Milliseconds()}
	v := s.views[p.place.ViewID]
	problem := a.problem()
	if problem == "" && v != nil {
		problem = s.obey(v, a, &seen)
	}
	seen.Warning = s.settle(p.place, troubleConnecting, problem)
	seen.Closed = s.views[p.place.ViewID] == nil
	if stack := s.stacks[p.place.User]; len(stack) > 0 {
		seen.OpenedView = s.viewByID(stack[len(stack)-1].id)
	}
	return seen
}

// obey carries out a submission's answer, or says why it cannot.
func (s *Server) obey(v *view, a ack, seen *Seen) (problem string) {
	if len(strings.TrimSpace(string(a.body))) == 0 {
		s.closeTop(v.user)
		return ""
	}
	var answer submitAnswer
	if !strings.HasPrefix(a.contentType, "application/json") {
		return fmt.Sprintf("the answer has a body of content type %q", a.contentType)
	}
	if err := json.Unmarshal(a.body, &answer); err != nil {
		return "the answer is not the JSON Slack wants: " + err.Error()
	}
	switch answer.Action {
	case "errors":
		return s.showErrors(v, answer.Errors, seen)
	case "update":
		return s.replaceView(v, answer.View)
	case "push":
		return s.pushOnto(v, answer.View)
	case "clear":
		s.closeAll(v.user)
		return ""
	default:
		return fmt.Sprintf("the answer has response_action %q", answer.Action)
	}
}

// showErrors puts messages under inputs; naming anything but an input block is an error.
func (s *Server) showErrors(v *view, problems map[string]string, seen *Seen) string {
	if len(problems) == 0 {
		return "the answer says errors and names none"
	}
	fields := v.fields()
	for block, message := range problems {
		if !slices.ContainsFunc(fields, func(f field) bool { return f.input && f.block == block }) {
			return fmt.Sprintf("the answer has an error for %q, which is no input block", block)
		}
		if message == "" {
			return fmt.Sprintf("the answer has an empty error for %q", block)
		}
	}
	v.errors, seen.Errors = problems, problems
	s.touch()
	return ""
}

func (s *Server) replaceView(v *view, body any) string {
	o, err := s.prepareView(body, "modal")
	if err != nil {
		return "the answer's view: " + describe(err)
	}
	s.fill(v, o)
	return ""
}

func (s *Server) pushOnto(v *view, body any) string {
	o, err := s.prepareView(body, "modal")
	switch {
	case err != nil:
		return "the answer's view: " + describe(err)
	case len(s.stacks[v.user]) >= maxStack:
		return "the answer pushes a fourth view"
	}
	s.push(v.user, o)
	return ""
}

// describe returns an error with the messages Slack would add to it.
func describe(err error) string { return encode(failure(err)) }

// CloseView presses the close button of a person's top modal. The app is told when the view
// asked for that with notify_on_close.
func (s *Server) CloseView(ctx context.Context, user, viewID string) (Seen, error) {
	p, err := s.prepareClose(user, viewID)
	if err != nil || p.sealed == "" {
		return Seen{Closed: err == nil}, err
	}
	a := s.send(ctx, p)
	return Seen{Sent: true, Closed: true, AckMS: a.took.Milliseconds()}, nil
}

func (s *Server) prepareClose(user, viewID string) (pressed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(user)
	if err != nil {
		return pressed{}, err
	}
	v, err := s.topView(user, viewID)
	if err != nil {
		return pressed{}, err
	}
	cleared := v.body["clear_on_close"] == true
	if cleared {
		s.closeAll(user)
	} else {
		s.closeTop(user)
	}
	if v.body["notify_on_close"] != true {
		return pressed{}, nil
	}
	p := s.interaction("view_closed", u, "")
	delete(p.payload, "trigger_id")
	delete(s.triggers, p.trigger)
	p.payload["view"], p.payload["is_cleared"] = s.wireView(v), cleared
	return p.seal(), nil
}
