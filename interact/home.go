package interact

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

const (
	// maxCandidates bounds the open tickets that are looked at for one person, those that end
	// first coming first.
	maxCandidates = 500
	// maxQuestion is how much of a question its asker is reminded of, in characters.
	maxQuestion = 200
	// homeLinks bounds asking Slack for the links of a home tab. One that was not to be had in
	// time is left out.
	homeLinks = 5 * time.Second
)

// visitor is a person who looks at tickets in Slack.
type visitor struct {
	config *policy.Config
	dir    approvals.Directory // as it stands now
	now    time.Time
	person approvals.Person
	// user is the Slack account they use.
	user string
}

// visit says whom a Slack account stands for; a text says why for nobody who may see
// anything.
func (d *Desk) visit(config *policy.Config, team, user string) (v visitor, refusal string) {
	now := d.c.Now()
	v = visitor{config: config, dir: config.Directory().At(now), now: now, user: user}
	facts, _ := config.SlackUser(user) // the zero facts, of nobody, are refused
	why := config.SlackRefusal(facts)
	if why == "" && !atHome(config.Slack, team, facts) {
		why = "you are in another workspace than those that are configured"
	}
	if why != "" {
		return v, "Countersign has nothing to show to you, because " + why + "."
	}
	person, known := v.dir.BySlack(user)
	switch {
	case !known:
		return v, unlinked(team, user)
	case v.dir.Inactive[person.Name] != "":
		return v, "Countersign has nothing to show to you, because " + v.dir.Inactive[person.Name] + "."
	}
	v.person = person
	return v, ""
}

// unlinked says to somebody who is not known what to do about it, and nothing else.
func unlinked(team, user string) string {
	return "Countersign does not know who you are: no person in its configuration has your Slack account. Ask whoever keeps the " +
		"configuration to add your member id " + user + " (workspace " + team + ") to your entry in people, as slack: " + user + "."
}

// Home renders the home tab of somebody who has opened it, from the database and with what
// Slack was last known to say of people: what waits for them, what they asked, and what was
// requested for them. Somebody who is not known finds out what to do about it. What it shows
// gives no authority: every press of its buttons is judged by fresh facts.
func (d *Desk) Home(ctx context.Context, h db.Home) (slack.HomeView, error) {
	config := d.c.Policy()
	if _, known := config.SlackUser(h.SlackUser); !known {
		var err error
		if config, err = d.c.Fresh(ctx, FreshNeed{Users: []string{h.SlackUser}}); err != nil {
			return slack.HomeView{}, fmt.Errorf("ask who has opened a home tab: %w", err)
		}
	}
	v, refusal := d.visit(config, h.SlackTeam, h.SlackUser)
	tab := slack.HomeTab{Notice: refusal, Now: v.now}
	if refusal != "" {
		return slack.Home(tab), nil
	}
	waiting, err := d.waiting(ctx, v)
	if err != nil {
		return slack.HomeView{}, err
	}
	asked, err := d.c.Store.OpenAskedBy(ctx, v.person.Name, maxCandidates)
	if err != nil {
		return slack.HomeView{}, err
	}
	requests, err := d.requests(ctx, v, slack.MaxHomeRequests)
	if err != nil {
		return slack.HomeView{}, err
	}
	for _, part := range []struct {
		tickets []approvals.Ticket
		most    int
		note    func(approvals.Ticket) string
		items   *[]slack.HomeItem
		more    *int
	}{
		{waiting, slack.MaxHomeWaiting, noteForApprover, &tab.Waiting, &tab.More.Waiting},
		{asked, slack.MaxHomeAsked, noteForAsker, &tab.Asked, &tab.More.Asked},
		{requests, slack.MaxHomeRequests, noteForRequester, &tab.Requests, nil},
	} {
		shown := part.tickets[:min(len(part.tickets), part.most)]
		if part.more != nil {
			*part.more = len(part.tickets) - len(shown)
		}
		if *part.items, err = d.items(ctx, v, shown, homeLinks, part.note); err != nil {
			return slack.HomeView{}, err
		}
	}
	return slack.Home(tab), nil
}

// waiting lists the open tickets that it is a person's move on, those that end first coming
// first.
func (d *Desk) waiting(ctx context.Context, v visitor) ([]approvals.Ticket, error) {
	all, err := d.c.Store.OpenNaming(ctx, v.person.Name, maxCandidates)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(t approvals.Ticket) bool { return !slices.Contains(t.WaitingFor(v.dir), v.person.Name) }), nil
}

// requests lists the newest tickets that a person has to answer for.
func (d *Desk) requests(ctx context.Context, v visitor, limit int) ([]approvals.Ticket, error) {
	var callers []string
	for caller, owners := range v.dir.Owners {
		if slices.Contains(owners, v.person.Name) {
			callers = append(callers, caller)
		}
	}
	// A call can be made on behalf of a caller: that means its owners.
	names := slices.Concat([]string{v.person.Name, v.person.Slack, v.person.Email}, v.person.Accounts, callers)
	all, err := d.c.Store.RequestedBy(ctx, names, callers, limit)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(t approvals.Ticket) bool { return !t.MayAnswer(v.person.Name, v.dir) }), nil
}

func noteForApprover(t approvals.Ticket) string {
	if t.Question != nil {
		return "a question is open; it can be decided on nevertheless"
	}
	return ""
}

func noteForAsker(t approvals.Ticket) string {
	if t.Question == nil {
		return ""
	}
	return "your question: “" + cut(t.Question.Text, maxQuestion) + "”"
}

func noteForRequester(t approvals.Ticket) string {
	if t.Question == nil {
		return ""
	}
	return "waits for an answer: “" + cut(t.Question.Text, maxQuestion) + "”"
}

// cut shortens a text to a number of characters, in one line.
func cut(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// items shows tickets to one person, each with a button that is that person's alone and a
// link to its card.
func (d *Desk) items(ctx context.Context, v visitor, tickets []approvals.Ticket, patience time.Duration, note func(approvals.Ticket) string) ([]slack.HomeItem, error) {
	var ids []string
	for _, t := range tickets {
		ids = append(ids, t.ID)
	}
	cards, err := d.c.Store.CardsFor(ctx, ids, v.user)
	if err != nil {
		return nil, err
	}
	refs := make([]slack.Ref, len(tickets))
	out := make([]slack.HomeItem, len(tickets))
	for i, t := range tickets {
		refs[i] = newest(cards[t.ID])
		handle, err := d.handle(ctx, v, t, cards[t.ID])
		if err != nil {
			return nil, err
		}
		out[i] = slack.HomeItem{View: d.glance(v, t, handle), Handle: handle, Note: note(t)}
	}
	for i, link := range d.links.of(ctx, d.c.Client, refs, patience, d.c.Logger) {
		out[i].Permalink = link
	}
	return out, nil
}

// newest is where the card of the latest stage is.
func newest(cards []db.Card) (ref slack.Ref) {
	for _, c := range cards {
		if c.Kind == db.CardStage && c.TS != "" {
			ref = slack.Ref{Channel: c.PostedTo, TS: c.TS}
		}
	}
	return ref
}

// handle is what a person's own button of a ticket carries, "" once it is over.
func (d *Desk) handle(ctx context.Context, v visitor, t approvals.Ticket, cards []db.Card) (string, error) {
	if t.State.Final() {
		return "", nil
	}
	for _, c := range cards {
		if c.Kind == db.CardPersonal && c.Stage == t.Stage && c.Digest == t.Digest && c.SlackUser == v.user {
			return c.Handle, nil
		}
	}
	c, err := d.c.Store.PrepareCard(ctx, db.NewCard{
		TicketID: t.ID, Stage: t.Stage, Kind: db.CardPersonal, Channel: "personal:" + v.user, SlackUser: v.user, Digest: t.Digest,
	})
	return c.Handle, err
}

// glance is what a list shows of a ticket.
func (d *Desk) glance(v visitor, t approvals.Ticket, handle string) slack.View {
	stage := max(0, min(t.Stage, len(t.Plan.Stages)-1))
	out := slack.View{
		Ticket: t, Tally: t.Tally(stage, v.dir), Directory: v.dir, Now: v.now, Stage: stage, Handle: handle, PublicURL: d.c.PublicURL,
		Fingerprint: approvals.Fingerprint(d.c.FingerprintKey, t.Digest),
	}
	if up, ok := v.config.Upstream(t.Call.Upstream); ok {
		out.BaseURL = up.BaseURL.String()
	}
	return out
}

// permalinks remembers the links to messages, which never change. The zero value is ready.
type permalinks struct {
	mu    sync.Mutex
	known map[slack.Ref]string
}

const (
	// maxLinks is how many links are remembered; beyond, all are forgotten.
	maxLinks = 10_000
	// linksAtOnce is how many Slack is asked for at a time.
	linksAtOnce = 5
)

// of returns the link to each message, "" for one that is nowhere or could not be had within
// the time given.
func (p *permalinks) of(ctx context.Context, client *slack.Client, refs []slack.Ref, patience time.Duration, log *slog.Logger) []string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := make([]string, len(refs))
	var asking sync.WaitGroup
	room := make(chan struct{}, linksAtOnce)
	for i, ref := range refs {
		if out[i] = p.remembered(ref); out[i] != "" || ref.TS == "" {
			continue
		}
		asking.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if ctx.Err() != nil {
				return
			}
			link, err := client.Permalink(ctx, ref)
			if err != nil {
				log.DebugContext(ctx, "a card has no link", slog.Any("error", err))
				return
			}
			out[i] = link
			p.remember(ref, link)
		})
	}
	asking.Wait()
	return out
}

func (p *permalinks) remembered(ref slack.Ref) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[ref]
}

func (p *permalinks) remember(ref slack.Ref, link string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxLinks {
		p.known = map[slack.Ref]string{}
	}
	p.known[ref] = link
}
