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
		{"encryption.keyset", start.Encryption.Keyset.Reveal(), next.Encryption.Keyset.Reveal()},
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
	if start.APIURL != next.APIURL {
		out = append(out, "slack.api_url")
	}
	if start.AppID != next.AppID {
		out = append(out, "slack.app_id")
	}
	if start.Mode != next.Mode || start.AppToken.Reveal() != next.AppToken.Reveal() {
		out = append(out, "slack.mode and slack.app_token")
	}
	if start.ClientID != next.ClientID || start.ClientSecret.Reveal() != next.ClientSecret.Reveal() || start.RefreshToken.Reveal() != next.RefreshToken.Reveal() {
		out = append(out, "slack.client_id, client_secret and refresh_token")
	}
	if !slices.Equal(start.ResponseHosts, next.ResponseHosts) {
		out = append(out, "slack.response_hosts")
	}
	return out
}

// keepFixed puts what cannot change into the next configuration as it is in force. The next
// one is nobody else's yet.
func keepFixed(start, inForce, next *policy.Config) {
	next.Server, next.Database, next.Encryption = inForce.Server, inForce.Database, inForce.Encryption
	next.Egress.Callbacks = narrowed(start.Egress.Callbacks, next.Egress.Callbacks)
	if start.Slack.Configured() != next.Slack.Configured() {
		next.Slack = inForce.Slack
		return
	}
	fixed := start.Slack
	next.Slack.APIURL, next.Slack.AppID, next.Slack.ResponseHosts = fixed.APIURL, fixed.AppID, fixed.ResponseHosts
	next.Slack.Mode, next.Slack.AppToken = fixed.Mode, fixed.AppToken
	next.Slack.ClientID, next.Slack.ClientSecret, next.Slack.RefreshToken = fixed.ClientID, fixed.ClientSecret, fixed.RefreshToken
}

// narrowed is what both admit. Deliveries are guarded by the rules of the start, so that
// what is forbidden since then is forbidden at once, and what is admitted since is not. They
// go by the proxy of the start.
func narrowed(start, next policy.EgressPolicy) policy.EgressPolicy {
	out := policy.EgressPolicy{
		AllowLoopback: start.AllowLoopback && next.AllowLoopback, AllowHTTP: start.AllowHTTP && next.AllowHTTP, Proxy: start.Proxy,
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
