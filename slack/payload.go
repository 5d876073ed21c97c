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
	AppID      string          `json:"api_app_id"`
	User       struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	Channel   *identified `json:"channel"`
	Container struct {
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
	if !idPattern.MatchString(p.User.ID) || !idPattern.MatchString(p.AppID) {
		return malformed("no user or no app")
	}
	if p.Team.id() == "" && p.Enterprise.id() == "" {
		return malformed("no workspace and no organisation")
	}
	for _, id := range []string{p.User.TeamID, p.Team.id(), p.Enterprise.id(), p.Channel.id(), p.Container.ChannelID} {
		if id != "" && !idPattern.MatchString(id) {
			return malformed("an impossible id")
		}
	}
	return nil
}

func (p payload) common() Interaction {
	return Interaction{
		Type: p.Type, TeamID: p.Team.id(), EnterpriseID: p.Enterprise.id(), AppID: p.AppID,
		User:      User{ID: p.User.ID, TeamID: p.User.TeamID},
		TriggerID: p.TriggerID, ResponseURL: p.ResponseURL,
	}
}

// click reads a pressed button. Slack sends one action at a time; more would leave open
// which of them is meant.
func (p payload) click() (Interaction, error) {
	if len(p.Actions) != 1 {
		return Interaction{}, malformed("%d actions", len(p.Actions))
	}
	if !ValidHandle(p.Actions[0].Value) {
		return Interaction{}, malformed("no handle in the button")
	}
	if a, b := p.Channel.id(), p.Container.ChannelID; a != "" && b != "" && a != b {
		return Interaction{}, malformed("two different channels")
	}
	out := p.common()
	out.ActionID, out.Handle = p.Actions[0].ActionID, p.Actions[0].Value
	out.Channel, out.MessageTS = p.Channel.id(), p.Container.MessageTS
	out.ThreadTS, out.Ephemeral = p.Container.ThreadTS, p.Container.Ephemeral
	if out.Channel == "" {
		out.Channel = p.Container.ChannelID
	}
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
	out.Handle = handle
	out.View = ModalState{ID: p.View.ID, CallbackID: p.View.CallbackID, Hash: p.View.Hash, State: map[string]map[string]string{}}
	for block, actions := range p.View.State.Values {
		out.View.State[block] = map[string]string{}
		for action, typed := range actions {
			if typed.Value != nil {
				out.View.State[block][action] = *typed.Value
			}
		}
	}
	return out, nil
}

// pointer is all that a modal's private_metadata holds.
type pointer struct {
	Handle string `json:"h"`
}

func (p pointer) encode() string {
	raw, _ := json.Marshal(p) // a struct of one string always marshals
	return string(raw)
}

var pointerPattern = regexp.MustCompile(`^\{"h":"(h_[0-9a-f]{32})"\}$`)

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
