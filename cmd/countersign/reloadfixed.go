package main

import (
	"reflect"
	"slices"

	"countersign/policy"
)

// needRestart names what differs from the start that a running process cannot take over:
// it listens already, is connected already, and has told others its addresses.
func needRestart(start, next *policy.Config) (out []string) {
	for _, f := range []struct {
		name          string
		before, after any
	}{
		{"server.listen", start.Server.Listen, next.Server.Listen},
		{"server.public_url", start.Server.PublicURL, next.Server.PublicURL},
		{"server.data_dir", start.Server.DataDir, next.Server.DataDir},
		{"server.drain", start.Server.Drain, next.Server.Drain},
		{"server.max_body", start.Server.MaxBody, next.Server.MaxBody},
		{"database.url", start.Database.URL.Reveal(), next.Database.URL.Reveal()},
		{"slack", start.Slack.Configured(), next.Slack.Configured()},
	} {
		if f.before != f.after {
			out = append(out, f.name)
		}
	}
	if start.Slack.Configured() && next.Slack.Configured() {
		out = append(out, slackRestart(start.Slack, next.Slack)...)
	}
	if !reflect.DeepEqual(narrowed(start.Egress.Callbacks, next.Egress.Callbacks), next.Egress.Callbacks) {
		out = append(out, "egress.callbacks")
	}
	return out
}

func slackRestart(start, next policy.Slack) (out []string) {
	if start.BotToken.Reveal() != next.BotToken.Reveal() {
		out = append(out, "slack.bot_token")
	}
	if !slices.EqualFunc(start.SigningSecrets, next.SigningSecrets, func(a, b policy.Secret) bool { return a.Reveal() == b.Reveal() }) {
		out = append(out, "slack.signing_secrets")
	}
	if start.APIURL != next.APIURL {
		out = append(out, "slack.api_url")
	}
	if start.AppID != next.AppID {
		out = append(out, "slack.app_id")
	}
	return out
}

// keepFixed puts what cannot change into the next configuration as it is in force. The next
// one is nobody else's yet.
func keepFixed(start, inForce, next *policy.Config) {
	next.Server, next.Database = inForce.Server, inForce.Database
	next.Egress.Callbacks = narrowed(start.Egress.Callbacks, next.Egress.Callbacks)
	if start.Slack.Configured() != next.Slack.Configured() {
		next.Slack = inForce.Slack
		return
	}
	fixed := start.Slack
	next.Slack.BotToken, next.Slack.SigningSecrets = fixed.BotToken, fixed.SigningSecrets
	next.Slack.APIURL, next.Slack.AppID = fixed.APIURL, fixed.AppID
}

// narrowed is what both admit. Deliveries are guarded by the rules of the start, so that
// what is forbidden since then is forbidden at once, and what is admitted since is not.
func narrowed(start, next policy.EgressPolicy) policy.EgressPolicy {
	out := policy.EgressPolicy{
		AllowLoopback: start.AllowLoopback && next.AllowLoopback, AllowHTTP: start.AllowHTTP && next.AllowHTTP,
	}
	for _, prefix := range next.AllowPrefixes {
		if slices.Contains(start.AllowPrefixes, prefix) {
			out.AllowPrefixes = append(out.AllowPrefixes, prefix)
		}
	}
	for _, port := range next.AllowPorts {
		if slices.Contains(start.AllowPorts, port) {
			out.AllowPorts = append(out.AllowPorts, port)
		}
	}
	return out
}
