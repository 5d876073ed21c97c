package main

import "slices"

// manifest is an app manifest of Slack's; the names are those of its documentation ("App
// manifest reference").
type manifest struct {
	Metadata    manifestMetadata `json:"_metadata"`
	Display     manifestDisplay  `json:"display_information"`
	Features    manifestFeatures `json:"features"`
	OAuthConfig struct {
		Scopes struct {
			Bot []string `json:"bot"`
		} `json:"scopes"`
	} `json:"oauth_config"`
	Settings manifestSettings `json:"settings"`
}

type manifestMetadata struct {
	MajorVersion int `json:"major_version"`
}

type manifestDisplay struct {
	Name            string `json:"name"`
	Description     string `json:"description"`
	BackgroundColor string `json:"background_color"`
}

type manifestFeatures struct {
	AppHome struct {
		HomeTabEnabled             bool `json:"home_tab_enabled"`
		MessagesTabEnabled         bool `json:"messages_tab_enabled"`
		MessagesTabReadOnlyEnabled bool `json:"messages_tab_read_only_enabled"`
	} `json:"app_home"`
	BotUser struct {
		DisplayName  string `json:"display_name"`
		AlwaysOnline bool   `json:"always_online"`
	} `json:"bot_user"`
	SlashCommands []manifestCommand `json:"slash_commands"`
}

type manifestCommand struct {
	Command      string `json:"command"`
	URL          string `json:"url,omitempty"`
	Description  string `json:"description"`
	UsageHint    string `json:"usage_hint"`
	ShouldEscape bool   `json:"should_escape"`
}

type manifestSettings struct {
	EventSubscriptions struct {
		RequestURL string   `json:"request_url,omitempty"`
		BotEvents  []string `json:"bot_events"`
	} `json:"event_subscriptions"`
	Interactivity struct {
		IsEnabled  bool   `json:"is_enabled"`
		RequestURL string `json:"request_url,omitempty"`
	} `json:"interactivity"`
	OrgDeployEnabled     bool `json:"org_deploy_enabled"`
	SocketModeEnabled    bool `json:"socket_mode_enabled"`
	TokenRotationEnabled bool `json:"token_rotation_enabled"`
}

// newManifest asks for no more than what is wanted. Deliberately absent: chat:write.public,
// so that somebody invited the bot to wherever it posts; chat:write.customize, with which it
// could pass for others; links and files.
func newManifest(w manifestWants) manifest {
	m := manifest{
		Metadata: manifestMetadata{MajorVersion: 1},
		Display:  manifestDisplay{Name: w.name, Description: "Approve privileged API calls", BackgroundColor: "#1d2433"},
	}
	home := &m.Features.AppHome
	home.HomeTabEnabled, home.MessagesTabEnabled, home.MessagesTabReadOnlyEnabled = true, true, true
	m.Features.BotUser.DisplayName, m.Features.BotUser.AlwaysOnline = "countersign", true
	m.Features.SlashCommands = []manifestCommand{{
		Command: "/approvals", URL: w.address("/slack/commands"), Description: "Your pending approvals",
		UsageHint: "[mine | show TICKET | link | help]",
	}}
	m.OAuthConfig.Scopes.Bot = w.scopes()
	m.Settings.EventSubscriptions.RequestURL = w.address("/slack/events")
	m.Settings.EventSubscriptions.BotEvents = w.events()
	m.Settings.Interactivity.IsEnabled = true
	m.Settings.Interactivity.RequestURL = w.address("/slack/interactions")
	m.Settings.OrgDeployEnabled, m.Settings.SocketModeEnabled, m.Settings.TokenRotationEnabled = w.org, w.socket, w.rotation
	return m
}

// address is "" in Socket Mode: Slack calls none.
func (w manifestWants) address(path string) string {
	if w.socket {
		return ""
	}
	return w.url + path
}

// need is a scope of the bot, the feature it is for, and what goes without it.
type need struct {
	scope, feature string
	// required: the product does not work without it.
	required bool
}

// needs are the scopes for what is wanted. What the manifest asks for is what the doctor
// looks for.
func (w manifestWants) needs() []need {
	out := []need{
		{"chat:write", "cards and their updates", true},
		{"im:write", "direct messages", true},
		{"commands", "/approvals", false},
		{"users:read", "whether somebody who clicks may: guests, bots and deactivated people are refused", true},
		{"channels:read", "public channels: whether they exist, are archived or shared", true},
		{"groups:read", "private channels: whether they exist, are archived or shared", true},
	}
	if w.groups {
		out = append(out, need{"usergroups:read", "Slack user groups as approvers", true})
	}
	if w.email {
		out = append(out, need{"users:read.email", "people matched by e-mail (slack.match_email)", true})
	}
	if w.history {
		for _, scope := range []string{"channels:history", "groups:history", "im:history"} {
			out = append(out, need{scope, "looking for a post whose answer was lost", false})
		}
	}
	return out
}

func (w manifestWants) scopes() (out []string) {
	for _, n := range w.needs() {
		out = append(out, n.scope)
	}
	return out
}

// events are what Slack tells us of: a home tab opened; what makes facts about people and
// groups old; channels that are no place for cards any more; and the end of the app.
func (w manifestWants) events() []string {
	out := []string{"app_home_opened"}
	if w.groups {
		out = append(out, "subteam_members_changed", "subteam_updated")
	}
	out = append(out, "user_change")
	if w.email {
		out = append(out, "team_join")
	}
	return slices.Concat(out, []string{"channel_archive", "channel_id_changed", "channel_shared", "app_uninstalled", "tokens_revoked"})
}
