package slack

import (
	"encoding/json"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// MaxCommandText bounds what is typed after a slash command, in bytes.
const MaxCommandText = 2000

// Command is what Countersign believes of an authentic slash command: who, where, and what
// was typed after it.
type Command struct {
	// Name is the command with its slash, such as "/approvals".
	Name string
	// Text is what was typed after it, as it was typed.
	Text string
	// User says who; TeamID is empty, since commands do not leave their workspace.
	User User
	// TeamID and EnterpriseID are as in [Interaction]; at least one is set.
	TeamID, EnterpriseID string
	// EnterpriseInstall says that the app is installed for the whole organisation.
	EnterpriseInstall bool
	AppID             string
	Channel           string
	TriggerID         string
	ResponseURL       string
}

// commandFields are the fields of a command that are read; each must be there at most once.
var commandFields = []string{
	"command", "text", "user_id", "team_id", "enterprise_id", "is_enterprise_install", "api_app_id", "channel_id", "trigger_id", "response_url",
}

// ParseCommand reads the body of a slash command whose signature [Verifier.Verify] has
// accepted: a flat form of at most [MaxInteraction] bytes in which no field that is read
// stands twice. Every error is [ErrMalformed].
func ParseCommand(raw []byte) (Command, error) {
	if len(raw) > MaxInteraction {
		return Command{}, malformed("more than %d bytes", MaxInteraction)
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return Command{}, malformed("not a form")
	}
	fields := map[string]string{}
	for _, name := range commandFields {
		if n := len(form[name]); n > 1 {
			return Command{}, malformed("%s stands in it %d times", name, n)
		}
		fields[name] = form.Get(name)
	}
	return commandOf(fields)
}

// ParseCommandJSON is [ParseCommand] for the payload of an envelope of Socket Mode.
func ParseCommandJSON(raw []byte) (Command, error) {
	if err := bounded(raw); err != nil {
		return Command{}, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return Command{}, malformed("not the JSON of a command")
	}
	fields := map[string]string{}
	for _, name := range commandFields {
		value, ok := textOf(all[name])
		if !ok {
			return Command{}, malformed("%s is not a text", name)
		}
		fields[name] = value
	}
	return commandOf(fields)
}

// textOf reads a value that is a text, true, false, or not there.
func textOf(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", true
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	var flag bool
	if json.Unmarshal(raw, &flag) == nil {
		return strconv.FormatBool(flag), true
	}
	return "", false
}

func commandOf(f map[string]string) (Command, error) {
	c := Command{
		Name: f["command"], Text: f["text"], User: User{ID: f["user_id"]}, TeamID: f["team_id"], EnterpriseID: f["enterprise_id"],
		EnterpriseInstall: f["is_enterprise_install"] == "true", AppID: f["api_app_id"], Channel: f["channel_id"],
		TriggerID: f["trigger_id"], ResponseURL: f["response_url"],
	}
	switch {
	case len(c.Name) < 2 || len(c.Name) > 33 || c.Name[0] != '/':
		return Command{}, malformed("no command")
	case len(c.Text) > MaxCommandText || !utf8.ValidString(c.Text):
		return Command{}, malformed("its text is too long or no text")
	case f["is_enterprise_install"] != "" && f["is_enterprise_install"] != "true" && f["is_enterprise_install"] != "false":
		return Command{}, malformed("is_enterprise_install is neither true nor false")
	}
	if err := identify(c.User, c.AppID, c.TeamID, c.EnterpriseID); err != nil {
		return Command{}, err
	}
	if err := possible(c.Channel); err != nil {
		return Command{}, err
	}
	return c, nil
}
