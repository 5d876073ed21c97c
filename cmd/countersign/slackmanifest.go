package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"

	"countersign/policy"
)

type slackCmd struct {
	Manifest slackManifestCmd `cmd:"" help:"Print the manifest that makes the Slack app for a configuration."`
	Emulator slackEmulatorCmd `cmd:"" help:"Run a local Slack to click in, for trying out and testing any Slack app."`
}

type slackManifestCmd struct {
	policyFlags
	URL     string `help:"Where Slack reaches Countersign, instead of server.public_url of the configuration." placeholder:"URL" name:"url"`
	Name    string `help:"Name of the app, at most 35 characters." default:"Countersign"`
	Socket  bool   `help:"Socket Mode: Slack calls no address of ours. Without it slack.mode says."`
	Email   bool   `help:"Ask for e-mail addresses too, to match people by. Without it slack.match_email says."`
	History bool   `help:"Ask to read messages, so that a post whose answer was lost is looked for before it is sent again."`
	YAML    bool   `help:"Print YAML. The default." xor:"form" name:"yaml"`
	JSON    bool   `help:"Print JSON." xor:"form" name:"json"`
}

// Help is shown below the flags.
func (slackManifestCmd) Help() string {
	return `Paste it at https://api.slack.com/apps, Create New App, From a manifest. It asks for the scopes and
events that the configuration needs and for no others; without --config, for those that most
need. What is left to do by hand is said on stderr.`
}

// Run prints the manifest on stdout, and what is left to do on stderr.
func (c slackManifestCmd) Run(env environment) error {
	config, err := c.config(env)
	if err != nil {
		return err
	}
	w, err := c.wants(config)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(newManifest(w), "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if c.JSON {
		raw = append(raw, '\n')
	} else if raw, err = yaml.JSONToYAML(raw); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if _, err := env.stdout.Write(raw); err != nil {
		return err
	}
	_, err = fmt.Fprint(env.stderr, w.next())
	return err
}

// config is nil when an address was given and no configuration.
func (c slackManifestCmd) config(env environment) (*policy.Config, error) {
	named := cmp.Or(c.Config, env.getenv("COUNTERSIGN_CONFIG")) != ""
	switch {
	case named:
		return c.load(env)
	case c.URL == "" && !c.Socket:
		return nil, usageError{errors.New("give --config FILE, or --url https://…, or --socket")}
	}
	return nil, nil //nolint:nilnil // none was named, which is no error
}

// manifestWants is what a manifest is made for.
type manifestWants struct {
	name, url                                     string
	socket, groups, email, history, rotation, org bool
}

// wants puts the command line and the configuration together.
func (c slackManifestCmd) wants(config *policy.Config) (manifestWants, error) {
	w := manifestWants{
		name: c.Name, url: c.URL, socket: c.Socket, groups: true, email: c.Email, history: c.History,
	}
	if config != nil {
		s := config.Slack
		w.url = cmp.Or(c.URL, config.Server.PublicURL)
		w.socket = c.Socket || s.Mode == "socket"
		w.email = c.Email || s.MatchEmail
		w.groups = len(config.UserGroups()) > 0
		w.rotation, w.org = !s.RefreshToken.IsZero(), len(s.EnterpriseIDs) > 0
	}
	if n := len([]rune(w.name)); n < 1 || n > 35 || strings.ContainsFunc(w.name, func(r rune) bool { return r < ' ' }) {
		return w, usageError{errors.New("--name is 1 to 35 characters")}
	}
	if w.socket {
		return w, nil
	}
	return w, w.checkURL()
}

// checkURL makes sure that Slack will call the address.
func (w *manifestWants) checkURL() error {
	u, err := url.Parse(w.url)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "http" && u.Scheme != "https"):
		return usageError{fmt.Errorf("%q is not the address of a server; give --url https://…", w.url)}
	case u.Scheme != "https":
		return usageError{fmt.Errorf("slack calls https addresses only, and this is %s: set server.public_url to the one "+
			"that Slack reaches, give --url, or use --socket, for which Slack need not reach anything", w.url)}
	}
	w.url = strings.TrimRight(w.url, "/")
	return nil
}

// next says what the manifest cannot do.
func (w manifestWants) next() string {
	steps := []string{"create the app from it at https://api.slack.com/apps (Create New App, From a manifest) and install it to the workspace"}
	if w.socket {
		steps = append(steps, "Basic Information, App-Level Tokens: make one with the scope connections:write, for slack.app_token")
	}
	if w.rotation {
		steps = append(steps, "token rotation cannot be switched off again; Client ID and Client Secret are under Basic Information")
	}
	steps = append(steps,
		"Bot User OAuth Token, Signing Secret, App ID and the workspace's id go into the slack section of the configuration",
		"/invite the app to each channel that rules name, then run countersign doctor")
	var b strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s)
	}
	return b.String()
}
