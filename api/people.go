package api

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"countersign/approvals"
	"countersign/db"
)

// requester reports whether the person who asks counts as the requester of a call: frozen
// at submit, an owner of the caller today, or the one it acts for.
func (x *exchange) requester(t approvals.Ticket) bool {
	name, dir := x.person.Name, x.config.Directory()
	if name == "" {
		return false
	}
	behalf, known := personOf(dir, t.OnBehalfOf)
	return slices.Contains(t.Plan.Excluded, name) || slices.Contains(dir.Owners[t.Caller], name) || (known && behalf == name)
}

// enrolled reports whether the plan of a ticket names the person who asks: in an approver
// set, in a tier, as somebody's delegate, or among those who may break the glass. What a
// name stood for when it was asked is what counts.
func (x *exchange) enrolled(t approvals.Ticket) bool {
	name := x.person.Name
	for _, members := range t.Plan.Roster {
		if slices.Contains(members, name) {
			return true
		}
	}
	for _, delegate := range t.Plan.Delegates {
		if delegate == name {
			return true
		}
	}
	return t.Directory(x.config.Directory()).Members(named(t.Plan))[name]
}

// named lists the people and groups that a plan asks, or may come to ask.
func named(p approvals.Plan) []string {
	var out []string
	add := func(sets []approvals.ApproverSet) {
		for _, set := range sets {
			out = append(out, set.From...)
		}
	}
	for _, stage := range p.Stages {
		add(stage.Need)
		for _, tier := range stage.Escalate {
			out = append(out, tier.To...)
			add(tier.Need)
		}
	}
	if p.BreakGlass != nil {
		out = append(out, p.BreakGlass.From...)
	}
	return out
}

func (x *exchange) decided(t approvals.Ticket) bool {
	return slices.ContainsFunc(t.Decisions, func(d approvals.Decision) bool { return d.Person == x.person.Name })
}

// hidden stands where people are not shown something.
const hidden = "[redacted]"

// hide takes out of a ticket what people are not shown: the query, where its rule redacts
// anything of it, and all of the callback's address but its origin, for callers put tokens
// there. A redaction that is not surely about something else is about the query.
func (x *exchange) hide(s *TicketSummary, t approvals.Ticket) {
	about := func(rule string) bool {
		root, _, _ := strings.Cut(rule, ".")
		root, _, _ = strings.Cut(root, "[")
		return !slices.Contains([]string{"headers", "header", "body"}, strings.ToLower(root))
	}
	if s.RawQuery != "" && slices.ContainsFunc(t.Plan.Redact, about) {
		s.RawQuery = hidden
	}
	if s.Callback.URL == nil {
		return
	}
	origin := hidden
	if u, err := url.Parse(*s.Callback.URL); err == nil && u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	s.Callback.URL = &origin
}

// mayReadResult refuses people who are not the requester's own, and no operators. What the
// upstream answers is meant for whoever asked.
func (o operations) mayReadResult(ctx context.Context, x *exchange, ref db.Ref) error {
	if x.person.Name == "" || x.operator() {
		return nil
	}
	t, err := o.store.Ticket(ctx, ref)
	if err != nil {
		return fmt.Errorf("read ticket %s: %w", ref.ID, err)
	}
	if !x.requester(t) {
		return fail(codeNotRequester, "only the requester's own people, and operators, may read results")
	}
	return nil
}
