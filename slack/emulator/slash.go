package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// SetCommandsURL says where slash commands go from now on; empty means nowhere.
func (s *Server) SetCommandsURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commandsURL = url
	s.touch()
}

// Slash lets a person type a command, such as "/approvals", and text after it in a channel.
// It returns once the app has answered or the time for that is over; Seen.Message is what
// the answer's body said.
func (s *Server) Slash(ctx context.Context, user, channel, command, text string) (Seen, error) {
	p, err := s.prepareSlash(user, channel, command, text)
	if err != nil {
		return Seen{}, err
	}
	a := s.deliver(ctx, p.parcel())
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := Seen{Sent: true, AckMS: a.took.Milliseconds()}
	problem, word := a.problem(), a.slashError()
	if problem == "" {
		if problem = s.showAnswer(p, a, &seen); problem != "" {
			word = "invalid_command_response"
		}
	}
	seen.Warning = s.settle(p.place, fmt.Sprintf("%s failed with the error %q", command, word), problem)
	if t := s.triggers[p.trigger]; t != nil {
		seen.OpenedView = s.viewByID(t.opened)
	}
	return seen, nil
}

func (s *Server) prepareSlash(user, channel, command, text string) (pressed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(user)
	if err != nil {
		return pressed{}, err
	}
	ch, ok := s.channels[channel]
	switch {
	case !ok:
		return pressed{}, fmt.Errorf("%w: channel %s", ErrNotFound, channel)
	case !slices.Contains(ch.Members, user):
		return pressed{}, fmt.Errorf("%w: %s cannot write in %s", ErrNotAllowed, user, channel)
	case !strings.HasPrefix(command, "/"), s.cfg.Commands != nil && !slices.Contains(s.cfg.Commands, command), !hasScope(s.botToken().scopes, "commands"):
		return pressed{}, fmt.Errorf("%w: %s is not a valid command", ErrNotFound, command)
	case u.IsStranger, u.TeamID != s.cfg.TeamID && !s.inGrid(u):
		return pressed{}, fmt.Errorf("%w: %s is of another workspace, where this command does not exist", ErrNotAllowed, user)
	}
	p := pressed{kind: "slash_commands", trigger: s.newTrigger(user, ""), place: Warning{User: user, Channel: channel, Command: command}}
	p.payload = s.slashFields(u, ch, command, text, p.trigger)
	return p.seal(), nil
}

func (s *Server) slashFields(u *User, ch *channel, command, text, trigger string) object {
	o := object{
		"token": "deprecated", "team_id": s.cfg.TeamID, "team_domain": s.cfg.TeamDomain, "channel_id": ch.ID, "channel_name": ch.payloadName(),
		"user_id": u.ID, "user_name": u.Name, "command": command, "text": entityEscape.Replace(text), "api_app_id": s.cfg.AppID,
		"is_enterprise_install": fmt.Sprint(s.cfg.OrgInstall), "response_url": s.newResponseURL(u.ID, ch.ID, ""), "trigger_id": trigger,
	}
	if s.cfg.EnterpriseID != "" {
		o["enterprise_id"], o["enterprise_name"] = s.cfg.EnterpriseID, s.cfg.EnterpriseName
	}
	return o
}

// slashForm is a command as the flat form Slack posts.
func slashForm(fields object) string {
	form := url.Values{}
	for k, v := range fields {
		form.Set(k, fmt.Sprint(v))
	}
	return form.Encode()
}

// slashError is the word a person reads when a command goes wrong.
func (a ack) slashError() string {
	switch {
	case a.late:
		return "operation_timeout"
	case a.err != nil:
		return "dispatch_failed"
	case a.status >= 500:
		return "http_service_error"
	default:
		return "http_client_error"
	}
}

// showAnswer shows what a command was answered with: JSON as a message, anything else as its
// text. Nobody but the person sees it unless it says in_channel.
func (s *Server) showAnswer(p pressed, a ack, seen *Seen) (problem string) {
	if len(strings.TrimSpace(string(a.body))) == 0 {
		return ""
	}
	c := s.botCall()
	c.args = object{"text": string(a.body)}
	if strings.HasPrefix(a.contentType, "application/json") {
		c.args = object{}
		if err := json.Unmarshal(a.body, &c.args); err != nil {
			return "the answer is not the JSON Slack wants: " + err.Error()
		}
		if len(c.args) == 0 {
			return ""
		}
	}
	d, err := c.readDraft()
	if err != nil {
		return "the answer's message: " + describe(err)
	}
	ch := s.channels[p.place.Channel]
	m, err := c.say(ch, p.place.User, d)
	if err != nil {
		return "the answer's message: " + describe(err)
	}
	shown := s.messageView(m)
	seen.Message = &shown
	return ""
}
