package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// announce prints where everything is and what to try.
func (p *devParts) announce(w io.Writer, databaseURL string, asJSON bool) {
	a := p.addresses
	if asJSON {
		_ = json.NewEncoder(w).Encode(map[string]string{
			"api": a.API, "slack": a.Slack, "upstream": a.Upstream, "callback": a.Callback,
			"caller": "demo-bot", "api_key": p.secrets.APIKey, "callback_secret": p.secrets.CallbackSecret,
			"person": "dev", "person_key": p.secrets.PersonKey,
			"config": p.configPath(), "data_dir": p.dir, "database_url": databaseURL,
		})
		return
	}
	_, _ = fmt.Fprintf(w, `
Countersign is running.

  Slack (click here)   %s/#U02BO/C01BILLING        you are bo; choose somebody else at the bottom left
  API                  %s        document: %s/openapi.yaml
  demo upstream        %s        calls it got: %s/calls
  demo receiver        %s        callbacks it got: %s/received
  demo policy          %s
                       change it and it is in force within seconds; the next start writes it anew
  database             %s
  API key              %s        (caller demo-bot, owned by ana)
  personal key         %s        (dev, who decides over the API with it)

Try:
`, a.Slack, a.API, a.API, a.Upstream, a.Upstream, a.Callback, a.Callback, p.configPath(), databaseURL, p.secrets.APIKey, p.secrets.PersonKey)
	for _, e := range []struct{ title, method, path, why string }{
		{"(a) allowed outright", "GET", "/customers/42", "look at a customer"},
		{"(b) one approver: bo or chen; eva may break the glass", "POST", "/refunds", "customer was charged twice"},
		{"(c) two stages: dev, then bo and chen; after 30 s eva may stand in for dev", "DELETE", "/customers/42", "asked for erasure, case 991"},
		{"(d) denied by rule", "DELETE", "/accounts/7", "clean-up"},
		{"(e) asked by direct message as well, approved by typing the fingerprint: chen or dev", "POST", "/transfers", "invoice 12 is due"},
	} {
		_, _ = fmt.Fprintf(w, "\n# %s\n%s\n", e.title, p.curl(e.method, e.path, e.why))
	}
	_, _ = fmt.Fprintf(w, `
# then ask for a ticket by its id
curl -s %[1]s/v1/tickets/<id> -H 'Authorization: Bearer %[2]s'

# press "Ask for details" in Slack, and answer as the caller
curl -s %[1]s/v1/tickets/<id>/answers -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' -d '{"answer":"case 991"}'

# dev decides on the first stage of (c) without Slack; digest is what the ticket says
curl -s %[1]s/v1/tickets/<id>/decisions -H 'Authorization: Bearer %[3]s' -H 'Content-Type: application/json' \
  -d '{"verdict":"approve","digest":"<digest>"}'

Ctrl-C stops. Events:
`, a.API, p.secrets.APIKey, p.secrets.PersonKey)
}

func (p *devParts) curl(method, path, why string) string {
	body := map[string]any{
		"upstream": "billing", "method": method, "path": path, "justification": why,
		"callback": map[string]string{"url": p.addresses.Callback + "/hook"},
	}
	if method == "POST" {
		body["body"] = map[string]any{"charge": "ch_1", "amount": 4200}
	}
	b, _ := json.Marshal(body) // plain strings always marshal
	return fmt.Sprintf(`curl -s %s/v1/tickets -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \
  -H "Idempotency-Key: $(date +%%s%%N)" -d '%s'`, p.addresses.API, p.secrets.APIKey, b)
}

// printer writes one line an event, whole lines even when many write.
type printer struct {
	mu   sync.Mutex
	w    io.Writer
	json bool
}

func newPrinter(w io.Writer, asJSON bool) *printer { return &printer{w: w, json: asJSON} }

func (p *printer) event(e approvals.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		_ = json.NewEncoder(p.w).Encode(e)
		return
	}
	line := fmt.Sprintf("%s  %s  %-26s %s", e.At.Local().Format(time.TimeOnly), short(e.TicketID), e.Type, words(e))
	_, _ = fmt.Fprintln(p.w, strings.TrimRight(line, " "))
}

func (p *printer) callback(c demoCallback, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		return
	}
	verdict := "signature verified"
	if !c.Verified {
		verdict = "SIGNATURE WRONG"
	}
	_, _ = fmt.Fprintf(p.w, "%s  %s  %-26s the demo receiver got %s, %s\n", at.Local().Format(time.TimeOnly), short(c.TicketID), "(callback)", c.Type, verdict)
}

// policy says that an edited demo policy is in force.
func (p *printer) policy(c changes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		return
	}
	_, _ = fmt.Fprintf(p.w, "%s  the changed policy is in force: %s\n", time.Now().Format(time.TimeOnly), c) //nolint:forbidigo // a line on a screen
}

func short(id string) string {
	if len(id) < 12 {
		return id
	}
	return id[:8] + "…" + id[len(id)-4:]
}

// words says an event in a few words.
func words(e approvals.Event) string {
	d := e.Data
	switch e.Type { //nolint:exhaustive // the rest is said by its name
	case approvals.EventCreated:
		c := d.Created
		return fmt.Sprintf("%s asks for %s %s%s, rule %q", c.Caller, c.Method, c.Upstream, c.Path, c.Plan.Rule)
	case approvals.EventNotified:
		return fmt.Sprintf("card for stage %d is in Slack", d.Card.Stage+1)
	case approvals.EventDecided:
		return decisionWords(d)
	case approvals.EventGlassBroken:
		return fmt.Sprintf("%s has bypassed everybody: %s", d.Decision.Person, quoted(d.Decision.Comment))
	case approvals.EventQuestionAsked:
		return fmt.Sprintf("%s asks: %s", d.Question.Person, quoted(d.Question.Text))
	case approvals.EventAnswered:
		return fmt.Sprintf("answered: %s", quoted(d.Question.Answer))
	case approvals.EventReleased:
		return "its hour has come"
	case approvals.EventStageCompleted:
		return fmt.Sprintf("stage %d is met", *d.Stage+1)
	case approvals.EventEscalated:
		too := " too"
		if d.Tier.Mode == approvals.ModeReplace {
			too = " instead"
		}
		return fmt.Sprintf("%s: %s may decide%s", d.Reason, strings.Join(d.Asked, ", "), too)
	case approvals.EventReminded:
		return fmt.Sprintf("reminder %d", d.Number)
	case approvals.EventRefused:
		return fmt.Sprintf("%s tried to %s: %s", e.Actor.Name, d.Refusal.Tried, d.Refusal.Message)
	case approvals.EventClaimed:
		return "a worker has taken it; nothing is sent yet"
	case approvals.EventExecuting:
		return "calling the upstream now, once"
	case approvals.EventCallbackDelivered, approvals.EventCallbackFailed, approvals.EventCallbackExhausted:
		return fmt.Sprintf("attempt %d, status %d %s", d.Delivery.Number, d.Delivery.Status, d.Delivery.Error)
	}
	return outcomeWords(d)
}

func decisionWords(d approvals.Data) string {
	have, needed := d.Tally.Have, d.Tally.Needed
	if d.Decision.Verdict == approvals.Deny {
		have, needed = d.Tally.Denials, d.Tally.DenialsNeeded
	}
	return fmt.Sprintf("%s: %s (stage %d, %d of %d) %s",
		d.Decision.Person, d.Decision.Verdict, d.Decision.Stage+1, have, needed, quoted(d.Decision.Comment))
}

func outcomeWords(d approvals.Data) string {
	switch {
	case d.Result != nil:
		return fmt.Sprintf("the upstream answered %d in %d ms", d.Result.Status, d.Result.DurationMS)
	case d.Problem != nil:
		return d.Problem.Detail
	}
	return d.Reason
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}

// live prints events as they happen.
type live struct {
	store   *db.Store
	printer *printer
	seen    map[string]int64
}

// follow prints every event from now on until ctx ends.
func follow(ctx context.Context, store *db.Store, p *printer) *live {
	l := &live{store: store, printer: p, seen: make(map[string]int64)}
	changes := store.Changes(ctx)
	go func() {
		for id := range changes {
			l.print(ctx, id)
		}
	}()
	return l
}

func (l *live) print(ctx context.Context, id string) {
	if _, known := l.seen[id]; !known && len(l.seen) > 100_000 {
		clear(l.seen) // a demo that ran for long: forget, at worst a line is repeated
	}
	events, err := l.store.Events(ctx, db.Ref{ID: id}, l.seen[id], 1000)
	if err != nil {
		return
	}
	for _, e := range events {
		l.printer.event(e)
		l.seen[id] = e.Seq
	}
}

func (l *live) received(c demoCallback) { l.printer.callback(c, time.Now()) } //nolint:forbidigo // a line on a screen
