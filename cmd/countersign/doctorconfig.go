package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// examineConfig says what a configuration that is in order holds, and what it lacks.
func (d *doctor) examineConfig(context.Context) {
	c := d.config
	d.ok(fmt.Sprintf("in order: rules %d, callers %d, upstreams %d, people %d, digest %s",
		len(c.Rules), len(c.Callers), len(c.Upstreams), len(c.People), c.Digest[:12]))
	if !c.Slack.Configured() {
		d.warn("there is no slack section", "nobody will be asked, and calls that need an approval will expire")
	}
	d.examinePublicURL()
	if len(c.Operators) == 0 {
		d.warn("there are no operators", "nobody can resolve a call whose outcome is unknown; name people or groups as operators")
	}
}

func (d *doctor) examinePublicURL() {
	u, err := url.Parse(d.config.Server.PublicURL)
	switch overHTTP := d.config.Slack.Configured() && !d.socketMode(); {
	case err != nil || u.Host == "":
		d.warn("server.public_url is not set", "links in answers, callbacks and cards lead nowhere")
	case u.Scheme == "https":
		d.ok("server.public_url is " + d.config.Server.PublicURL)
	case overHTTP && !onLoopback(d.config.Slack.APIURL):
		d.fail("server.public_url is "+d.config.Server.PublicURL+", and Slack calls https addresses only",
			"set it to the address that Slack reaches, or set slack.mode to socket")
	default: // the configuration takes http on this machine only
		d.warn("server.public_url is "+d.config.Server.PublicURL, "links work on this machine only; good for trying things")
	}
}

// lookupLimit bounds looking up one name.
const lookupLimit = 10 * time.Second

// examineUpstreams looks up the names of upstreams. None is called.
func (d *doctor) examineUpstreams(ctx context.Context) {
	if len(d.config.Upstreams) == 0 {
		d.warn("there are none", "no call can be submitted")
	}
	known := map[string]string{} // what came of a name, "" when it was found
	for _, up := range d.config.Upstreams {
		host := up.BaseURL.Hostname()
		trouble, looked := known[host]
		if !looked {
			trouble = lookup(ctx, host)
			known[host] = trouble
		}
		if trouble != "" {
			d.fail(fmt.Sprintf("%s: %s cannot be found: %s", up.Name, host, trouble), "calls to it will fail; correct base_url or the name server")
			continue
		}
		d.ok(fmt.Sprintf("%s: %s is found", up.Name, host))
	}
}

// lookup returns why a host has no address, "" when it has one.
func lookup(ctx context.Context, host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(ctx, host)
	var trouble *net.DNSError
	switch {
	case errors.As(err, &trouble):
		return trouble.Err
	case err != nil:
		return err.Error()
	}
	return ""
}

// namedChannels are the channels that cards and announcements may go to, each with the
// places of the configuration that say so.
func (d *doctor) namedChannels() (names []string, where map[string][]string) {
	where = map[string][]string{}
	add := func(name, place string) {
		if name == "" {
			return
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if !slices.Contains(where[name], place) {
			where[name] = append(where[name], place)
		}
	}
	add(d.config.Slack.Channel, "slack.channel")
	add(d.config.Slack.FallbackChannel, "slack.fallback_channel")
	for _, r := range d.config.Rules {
		for _, s := range r.Stages {
			add(s.Channel, "rule "+r.Name)
			add(s.Fallback, "rule "+r.Name)
		}
		if r.BreakGlass != nil {
			add(r.BreakGlass.Announce, "rule "+r.Name)
		}
	}
	return names, where
}
