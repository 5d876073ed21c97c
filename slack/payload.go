package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// payload is the little that is read of an interaction. The message it happened on is left
// out on purpose: it is not evidence of anything, and new kinds of blocks in it must not
// break a click.
type payload struct {
	Type       InteractionType `json:"type"`
	Team       *identified     `json:"team"`
	Enterprise *identified     `json:"enterprise"`
	OrgInstall bool            `json:"is_enterprise_install"`
	AppID      string          `json:"api_app_id"`
	User       struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	Channel   *identified `json:"channel"`
	Container struct {
		Type      string `json:"type"`
		ViewID    string `json:"view_id"`
		ChannelID string `json:"channel_id"`
		MessageTS string `json:"message_ts"`
		ThreadTS  string `json:"thread_ts"`
		Ephemeral bool   `json:"is_ephemeral"`
	} `json:"container"`
	TriggerID   string `json:"trigger_id"`
	ResponseURL string `json:"response_url"`
	Actions     []struct {
		ActionID string `json:"action_id"`
		Value    string `json:"value"`
	} `json:"actions"`
	View *struct {
		ID              string `json:"id"`
		Type            string `json:"type"`
		CallbackID      string `json:"callback_id"`
		Hash            string `json:"hash"`
		PrivateMetadata string `json:"private_metadata"`
		State           struct {
			Values map[string]map[string]struct {
				Value *string `json:"value"`
			} `json:"values"`
		} `json:"state"`
	} `json:"view"`
}

type identified struct {
	ID string `json:"id"`
}

func (o *identified) id() string {
	if o == nil {
		return ""
	}
	return o.ID
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// check refuses what names nobody or no app: whoever decides what to allow must never
// compare with an empty string.
func (p payload) check() error {
	switch p.Type {
	case BlockActions, ViewSubmission, ViewClosed:
	default:
		return malformed("an unknown type")
	}
	if err := identify(User{p.User.ID, p.User.TeamID}, p.AppID, p.Team.id(), p.Enterprise.id()); err != nil {
		return err
	}
	return possible(p.Channel.id(), p.Container.ChannelID)
}

// identify refuses what does not say who it is of, of which app, and where.
func identify(user User, app, team, enterprise string) error {
	switch {
	case !idPattern.MatchString(user.ID) || !idPattern.MatchString(app):
		return malformed("no user or no app")
	case team == "" && enterprise == "":
		return malformed("no workspace and no organisation")
	}
	return possible(user.TeamID, team, enterprise)
}

// possible refuses ids that are there and cannot be any.
func possible(ids ...string) error {
	for _, id := range ids {
		if id != "" && !idPattern.MatchString(id) {
			return malformed("an impossible id")
		}
	}
	return nil
}

func (p payload) common() Interaction {
	return Interaction{
		Type: p.Type, TeamID: p.Team.id(), EnterpriseID: p.Enterprise.id(), AppID: p.AppID,
		EnterpriseInstall: p.OrgInstall, User: User{ID: p.User.ID, TeamID: p.User.TeamID},
		TriggerID: p.TriggerID, ResponseURL: p.ResponseURL,
	}
}

// click reads a pressed button. Slack sends one action at a time; more would leave open
// which of them is meant.
func (p payload) click() (Interaction, error) {
	if len(p.Actions) != 1 {
		return Interaction{}, malformed("%d actions", len(p.Actions))
	}
	out := p.common()
	out.ActionID, out.Handle = p.Actions[0].ActionID, p.Actions[0].Value
	if !ValidHandle(out.Handle) && !ValidReview(out.Handle) {
		return Interaction{}, malformed("no handle in the button")
	}
	if p.Container.Type == "view" {
		return p.clickInView(out)
	}
	if a, b := p.Channel.id(), p.Container.ChannelID; a != "" && b != "" && a != b {
		return Interaction{}, malformed("two different channels")
	}
	out.Surface, out.Channel, out.MessageTS = SurfaceMessage, p.Channel.id(), p.Container.MessageTS
	out.ThreadTS, out.Ephemeral = p.Container.ThreadTS, p.Container.Ephemeral
	if out.Channel == "" {
		out.Channel = p.Container.ChannelID
	}
	return out, nil
}

// clickInView reads a button pressed in a modal or on a Home tab. A modal of ours has a
// pointer, and a button in it the same one.
func (p payload) clickInView(out Interaction) (Interaction, error) {
	if p.View == nil || p.View.ID == "" || (p.Container.ViewID != "" && p.Container.ViewID != p.View.ID) {
		return Interaction{}, malformed("no view, or two different ones")
	}
	if out.Surface = Surface(p.View.Type); out.Surface != SurfaceModal && out.Surface != SurfaceHome {
		return Interaction{}, malformed("a view of an unknown kind")
	}
	if out.Surface == SurfaceModal {
		handle, err := parsePointer(p.View.PrivateMetadata)
		if err != nil {
			return Interaction{}, err
		}
		if handle != out.Handle {
			return Interaction{}, malformed("two different handles")
		}
	}
	out.View = p.state()
	return out, nil
}

func (p payload) modal() (Interaction, error) {
	if p.View == nil || p.View.ID == "" {
		return Interaction{}, malformed("no view")
	}
	handle, err := parsePointer(p.View.PrivateMetadata)
	if err != nil {
		return Interaction{}, err
	}
	out := p.common()
	out.Surface, out.Handle, out.View = SurfaceModal, handle, p.state()
	return out, nil
}

// state is the view as it was, with what was typed into it.
func (p payload) state() ModalState {
	out := ModalState{ID: p.View.ID, CallbackID: p.View.CallbackID, Hash: p.View.Hash, State: map[string]map[string]string{}}
	for block, actions := range p.View.State.Values {
		out.State[block] = map[string]string{}
		for action, typed := range actions {
			if typed.Value != nil {
				out.State[block][action] = *typed.Value
			}
		}
	}
	return out
}

// pointer is all that a modal's private_metadata holds.
type pointer struct {
	Handle string `json:"h"`
}

func (p pointer) encode() string {
	raw, _ := json.Marshal(p) // a struct of one string always marshals
	return string(raw)
}

var pointerPattern = regexp.MustCompile(`^\{"h":"([hv]_[0-9a-f]{32})"\}$`)

// parsePointer takes back exactly what encode made, and nothing that merely means the same.
func parsePointer(metadata string) (string, error) {
	m := pointerPattern.FindStringSubmatch(metadata)
	if m == nil {
		return "", malformed("no handle in the modal")
	}
	return m[1], nil
}

// maxDepth bounds how deep JSON of others may nest.
const maxDepth = 100

// bounded refuses JSON that is too long, or that two readers could understand differently.
func bounded(raw []byte) error {
	if len(raw) > MaxInteraction {
		return malformed("more than %d bytes", MaxInteraction)
	}
	return uniqueKeys(raw)
}

// uniqueKeys refuses JSON that two readers could understand differently: invalid UTF-8, an
// object that names a key twice (in whatever case, since Go would match both), data after
// the end, or absurd depth.
func uniqueKeys(raw []byte) error {
	if !utf8.Valid(raw) {
		return malformed("invalid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := uniqueValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("data after the JSON")
	}
	return nil
}

// fold makes keys equal that encoding/json takes for the same field.
func fold(key json.Token) string {
	name, _ := key.(string)
	return strings.ToLower(strings.ToUpper(name))
}

func uniqueValue(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return malformed("not JSON")
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth >= maxDepth {
		return malformed("nested too deep")
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return malformed("not JSON")
			}
			folded := fold(key)
			if seen[folded] {
				return malformed("a key given twice")
			}
			seen[folded] = true
		}
		if err := uniqueValue(dec, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed("not JSON")
	}
	return nil
}
