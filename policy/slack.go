package policy

import (
	"net/url"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// The words of slack.mode and slack.tell_requesters, the defaults first.
const (
	modeHTTP   = "http"
	modeSocket = "socket"

	tellOutcomes  = "outcomes"
	tellQuestions = "questions"
	tellNone      = "none"
)

// maxHosts bounds the lists of domains and hosts.
const maxHosts = 20

func (d *decoder) slack(n ast.Node) {
	s := &d.draft.slack
	s.at, s.present = d.at(n), true
	d.object(n, "slack", fields{
		"bot_token":        d.secret(&s.BotToken, headerSafe),
		"signing_secrets":  d.placed(&s.signedAt, d.secrets("signing_secrets", &s.SigningSecrets, 2, headerSafe)),
		"api_url":          d.word(&s.api),
		"team_ids":         d.words("team_ids", &s.teams),
		"enterprise_ids":   d.words("enterprise_ids", &s.enterprises),
		"app_id":           d.matching(&s.app, appPattern, "app_id must be the id of a Slack app, such as A0123ABCD"),
		"channel":          d.channel(&s.channel),
		"fallback_channel": d.channel(&s.fallback),
		"mode":             d.choice(&s.mode, modeHTTP, modeSocket),
		"app_token":        d.placed(&s.appTokenAt, d.secret(&s.AppToken, headerSafe)),
		"client_id":        d.rotating(d.word(&s.client)),
		"client_secret":    d.rotating(d.secret(&s.ClientSecret, headerSafe)),
		"refresh_token":    d.rotating(d.secret(&s.RefreshToken, headerSafe)),
		"match_email":      d.placed(&s.matchAt, d.boolean(&s.MatchEmail)),
		"email_domains":    d.capped("email_domains", maxHosts, d.host(&s.domains, "email_domains must hold domains in lower case, such as example.com")),
		"allow_external":   d.boolean(&s.AllowExternal),
		"tell_requesters":  d.choice(&s.tell, tellOutcomes, tellQuestions, tellNone),
		"response_hosts":   d.capped("response_hosts", maxHosts, d.host(&s.hosts, "response_hosts must hold host names in lower case, such as hooks.slack-gov.com")),
	}, "bot_token", "team_ids", "app_id")
}

// placed notes where a field is.
func (d *decoder) placed(at *pos, decode field) field {
	return func(n ast.Node) {
		*at = d.at(n)
		decode(n)
	}
}

// rotating notes where one of the fields is that renew a token.
func (d *decoder) rotating(decode field) field {
	return func(n ast.Node) {
		d.draft.slack.rotation = append(d.draft.slack.rotation, d.at(n))
		decode(n)
	}
}

// host decodes one of a list of host names.
func (d *decoder) host(dst *[]word, rule string) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		switch {
		case w.text == "":
		case !hostPattern.MatchString(w.text) || !strings.Contains(w.text, ".") || !plainHost(w.text):
			d.problem(w.at, "", "%s", rule)
		default:
			*dst = append(*dst, w)
		}
	}
}

func (d *decoder) channel(dst *word) field {
	return d.matching(dst, channelForm, `a channel is "#name" in lower case, quoted, or an id such as C0123ABCD`)
}

func (d *decoder) finishSlack() {
	s := &d.draft.slack
	if !s.present {
		return
	}
	for _, team := range s.teams {
		if !teamPattern.MatchString(team.text) {
			d.problem(team.at, "", "team_ids must hold ids of workspaces, such as T0123ABCD")
		}
	}
	for _, org := range s.enterprises {
		if !enterprisePattern.MatchString(org.text) {
			d.problem(org.at, "", "enterprise_ids must hold ids of organisations, such as E0123ABCD")
		}
	}
	s.APIURL = defaultSlackAPI
	if s.api.text != "" {
		s.APIURL = d.baseURL(s.api, "api_url") + "/"
		if u, err := url.Parse(s.APIURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			d.problem(s.api.at, "", "api_url must be https unless it is this machine")
		}
	}
	s.TeamIDs, s.EnterpriseIDs, s.AppID = texts(s.teams), texts(s.enterprises), s.app.text
	s.Channel, s.FallbackChannel, s.ClientID = s.channel.text, s.fallback.text, s.client.text
	s.EmailDomains, s.ResponseHosts = texts(s.domains), texts(s.hosts)
	s.Mode, s.TellRequesters = modeHTTP, tellOutcomes
	if s.mode.text != "" {
		s.Mode = s.mode.text
	}
	if s.tell.text != "" {
		s.TellRequesters = s.tell.text
	}
	d.finishTransport(s)
	d.finishMatching(s)
}

// finishTransport checks what each way for Slack to reach Countersign needs, and what
// renewing tokens does.
func (d *decoder) finishTransport(s *slackDraft) {
	switch {
	case s.Mode == modeSocket && s.appTokenAt.src == nil:
		d.problem(s.at, "", `slack needs the field "app_token" with mode: socket`)
	case s.Mode == modeHTTP && s.appTokenAt.src != nil:
		d.problem(s.appTokenAt, "remove it, or set mode: socket", "app_token is for mode: socket")
	case s.Mode == modeHTTP && s.signedAt.src == nil:
		d.problem(s.at, "", `slack needs the field "signing_secrets"`)
	}
	if n := len(s.rotation); n != 0 && n != 3 {
		d.problem(s.rotation[0], "", "client_id, client_secret and refresh_token renew a token together: all three, or none")
	}
}

func (d *decoder) finishMatching(s *slackDraft) {
	switch {
	case s.MatchEmail && len(s.domains) == 0:
		d.problem(s.matchAt, "", "match_email needs email_domains: in which domains can nobody take another's address?")
	case !s.MatchEmail && len(s.domains) > 0:
		d.problem(s.domains[0].at, "remove it, or set match_email: true", "email_domains is for match_email")
	}
}
