package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/policy"
	"countersign/slack"
	"countersign/slack/emulator"
)

// The people of the emulator's demo workspace. Dev is not in the configuration, where only
// somebody else's name looks like dev's id; erin is, but at home in another workspace.
const (
	ana  = "U02ANA"
	bo   = "U02BO"
	chen = "U02CHEN"
	dev  = "U02DEV"
	erin = "U02EXT"
)

const (
	billingRoom  = "C01BILLING"
	securityRoom = "C03SECURITY"
	partnerRoom  = "C04PARTNER"
)

const slackConfiguration = `
server: {listen: "127.0.0.1:8080", public_url: "https://countersign.example.com"}
slack: {bot_token: env:BOT_TOKEN, signing_secrets: [env:SIGNING_SECRET], api_url: "%s", team_ids: [T0EMULATOR], app_id: A0EMULATOR}
callers:
  - {name: payroll, key_sha256: %s, owners: [ana], upstreams: [billing]}
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO}
  - {name: chen, slack: U02CHEN}
  - {name: erin, slack: U02EXT}
  - {name: fay, slack: U02FAY}
  - {name: U02DEV, email: dev@example.com}
groups:
  - {name: security, members: [ana, %s, chen, erin, U02DEV]}
upstreams:
  - {name: billing, base_url: "https://billing.internal/v1"}
rules:
  - name: very-brief
    match: {upstream: billing, methods: [PATCH], path: /at-once}
    expires_in: 1s
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: C01BILLING}}]
  - name: brief
    match: {upstream: billing, methods: [PATCH]}
    expires_in: 2m
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: C01BILLING}}]
  - name: two-people
    match: {upstream: billing, methods: [PUT]}
    stages: [{name: both, need: [{from: [security], approvals: 2}], notify: {channel: C01BILLING}}]
  - name: two-stages
    match: {upstream: billing, methods: [DELETE], path: /staged}
    stages:
      - {name: peer, need: [{from: [bo], approvals: 1}], notify: {channel: C01BILLING}}
      - {name: security, need: [{from: [chen], approvals: 1}], notify: {channel: C03SECURITY}}
  - name: private
    match: {upstream: billing, methods: [DELETE], path: /private}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: C03SECURITY}}]
  - name: shared
    match: {upstream: billing, methods: [DELETE], path: /shared}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: C04PARTNER}}]
  - name: commented
    match: {upstream: billing, methods: [DELETE], path: /commented}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], comment: both, notify: {channel: C01BILLING}}]
  - name: unreasoned
    match: {upstream: billing, methods: [DELETE], path: /unreasoned}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], comment: never, notify: {channel: C01BILLING}}]
  - name: glass
    match: {upstream: billing, methods: [DELETE], path: /glass}
    stages:
      - {name: peer, need: [{from: [chen, fay], approvals: 2}], notify: {channel: C01BILLING}}
      - {name: last, need: [{from: [erin], approvals: 1}], notify: {channel: C03SECURITY}}
    break_glass: {from: [ana, bo], announce: C02GENERAL}
  - name: one-person
    match: {upstream: billing}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: C01BILLING}}]
`

const (
	emulatorToken  slack.Secret = "xoxb-emulator" //nolint:gosec // the emulator's own
	emulatorSecret slack.Secret = "emulator-signing-secret"
)

// Calls that the rules above are about.
const (
	oneApproval  = `{"upstream":"billing","method":"POST","path":"/refunds","justification":"case 991"}`
	twoApprovals = `{"upstream":"billing","method":"PUT","path":"/customers/42","justification":"case 991"}`
	twoStages    = `{"upstream":"billing","method":"DELETE","path":"/staged","justification":"case 991"}`
	inPrivate    = `{"upstream":"billing","method":"DELETE","path":"/private","justification":"case 991"}`
	inShared     = `{"upstream":"billing","method":"DELETE","path":"/shared","justification":"case 991"}`
	inTwoMinutes = `{"upstream":"billing","method":"PATCH","path":"/soon","justification":"case 991"}`
	commented    = `{"upstream":"billing","method":"DELETE","path":"/commented","justification":"case 991"}`
	unreasoned   = `{"upstream":"billing","method":"DELETE","path":"/unreasoned","justification":"case 991"}`
	withGlass    = `{"upstream":"billing","method":"DELETE","path":"/glass","justification":"case 991"}`
	inOneSecond  = `{"upstream":"billing","method":"PATCH","path":"/at-once","justification":"case 991"}`
)

// office is a server with an emulated Slack workspace whose clicks it takes.
type office struct {
	*bundle
	emu    *emulator.Server
	client *slack.Client
	outbox *dbtest.Outbox
	// configure loads the configuration with somebody else in bo's place in the group.
	configure func(member string)
	// rewrite loads it with some of its text replaced.
	rewrite func(oldNew ...string)
}

func openOffice(t *testing.T) *office {
	t.Helper()
	o := &office{emu: emulator.New(emulator.Config{Workspace: emulator.Demo()}), outbox: &dbtest.Outbox{}}
	workspace := httptest.NewServer(o.emu)
	t.Cleanup(workspace.Close)
	t.Cleanup(o.emu.Close)
	o.emu.SetBaseURL(workspace.URL)
	var err error
	o.client, err = slack.New(slack.Config{
		Token: emulatorToken, APIURL: o.emu.APIURL(), HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}),
	})
	require.NoError(t, err, "make a Slack client")
	pool := dbtest.Pool(t)
	o.bundle = setupOn(t, dbtest.Store(t, pool, o.outbox), o.mount(t))
	o.pool = pool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT now()`).Scan(&o.clock.at), "set the clock by the database's")
	o.useConfiguration(t)
	o.emu.SetInteractionsURL(o.url + "/slack/interactions")
	return o
}

// mount puts the door for Slack into a server.
func (o *office) mount(t *testing.T) func(*api.Config) {
	t.Helper()
	return func(c *api.Config) {
		store, ok := c.Store.(*db.Store)
		require.True(t, ok, "a store on a database")
		verifier, err := slack.NewVerifier(slack.VerifierConfig{SigningSecrets: []slack.Secret{emulatorSecret}, Now: c.Now})
		require.NoError(t, err, "make a verifier")
		c.SlackInteractions, err = api.NewInteractions(api.InteractionsConfig{
			Store: store, Policy: c.Policy, Verifier: verifier, Client: o.client, PublicURL: publicURL, Now: c.Now, Logger: c.Logger,
		})
		require.NoError(t, err, "make the handler of interactions")
	}
}

func (o *office) useConfiguration(t *testing.T) {
	t.Helper()
	key, hash, err := policy.NewKey()
	require.NoError(t, err, "make a key")
	load := func(text string) {
		config, err := policy.Parse("test.yaml", []byte(text), func(string) string { return string(emulatorSecret) })
		require.NoError(t, err, "load the configuration")
		o.config, o.key = config, key
	}
	text := func(member string) string { return fmt.Sprintf(slackConfiguration, o.emu.APIURL(), hash, member) }
	o.configure = func(member string) { load(text(member)) }
	o.rewrite = func(oldNew ...string) { load(strings.NewReplacer(oldNew...).Replace(text("bo"))) }
	o.configure("bo")
}

// card is a ticket's card in the workspace.
type card struct{ ticket, channel, ts, handle string }

// ask submits a call and posts the card of its first stage.
func (o *office) ask(t *testing.T, body string) card {
	t.Helper()
	return o.show(t, o.submit(t, body).id(t))
}

// show posts the card of a ticket's current stage, as the notify job does.
func (o *office) show(t *testing.T, id string) card {
	t.Helper()
	prepared, ticket := o.prepare(t, id)
	ref, err := o.client.Post(t.Context(), prepared.Channel, slack.Card(o.viewOf(ticket, prepared)), slack.PostOptions{})
	require.NoError(t, err, "post the card of %s", id)
	require.NoError(t, o.store.CardPosted(t.Context(), prepared.Handle, ref.Channel, ref.TS, ticket.Version), "note where the card is")
	return card{ticket: id, channel: ref.Channel, ts: ref.TS, handle: prepared.Handle}
}

func (o *office) prepare(t *testing.T, id string) (db.Card, approvals.Ticket) {
	t.Helper()
	ticket := o.ticket(t, id)
	prepared, err := o.store.PrepareCard(t.Context(), id, ticket.Stage, ticket.Plan.Stages[ticket.Stage].Channel, ticket.Digest)
	require.NoError(t, err, "prepare the card of %s", id)
	return prepared, ticket
}

func (o *office) viewOf(ticket approvals.Ticket, c db.Card) slack.View {
	dir := o.config.Directory()
	return slack.View{
		Ticket: ticket, Tally: ticket.Tally(c.Stage, dir), Directory: dir, Now: o.clock.now(), Stage: c.Stage, Handle: c.Handle,
		PublicURL: publicURL, BaseURL: "https://billing.internal/v1",
	}
}

func (o *office) ticket(t *testing.T, id string) approvals.Ticket {
	t.Helper()
	ticket, err := o.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "read ticket %s", id)
	return ticket
}

// slackPatience is how long Slack waits for an answer, in milliseconds.
const slackPatience = 3000

// click presses a button and confirms. Whatever comes of it, it is answered in time.
func (o *office) click(t *testing.T, user string, c card, action string) emulator.Seen {
	t.Helper()
	seen, err := o.emu.Click(t.Context(), user, c.channel, c.ts, action, true)
	require.NoError(t, err, "%s presses %s", user, action)
	require.True(t, seen.Sent, "the click is sent")
	require.Less(t, seen.AckMS, int64(slackPatience), "time to answer")
	return seen
}

// clickWell presses a button and sees no warning.
func (o *office) clickWell(t *testing.T, user string, c card, action string) emulator.Seen {
	t.Helper()
	seen := o.click(t, user, c, action)
	require.Empty(t, seen.Warning, "what Slack warned of")
	return seen
}

// openDialog presses Deny and returns the modal that opens.
func (o *office) openDialog(t *testing.T, user string, c card) string {
	t.Helper()
	return o.openModal(t, user, c, slack.ActionDeny).ID
}

// openModal presses a button that opens a modal.
func (o *office) openModal(t *testing.T, user string, c card, action string) *emulator.View {
	t.Helper()
	seen := o.clickWell(t, user, c, action)
	require.NotNil(t, seen.OpenedView, "the dialog is open; told: %v", o.told(user))
	return seen.OpenedView
}

// giveReason sends the deny modal off.
func (o *office) giveReason(t *testing.T, user, view, reason string) emulator.Seen {
	t.Helper()
	return o.write(t, user, view, slack.ReasonBlock, reason)
}

// write types into the one input of a modal and sends it off.
func (o *office) write(t *testing.T, user, view, input, text string) emulator.Seen {
	t.Helper()
	seen, err := o.emu.SubmitView(t.Context(), user, view, map[string]map[string]string{input: {slack.InputAction: text}})
	require.NoError(t, err, "%s sends the dialog", user)
	require.Less(t, seen.AckMS, int64(slackPatience), "time to answer")
	return seen
}

// writeWell is write where the modal closes.
func (o *office) writeWell(t *testing.T, user, view, input, text string) {
	t.Helper()
	seen := o.write(t, user, view, input, text)
	require.Empty(t, seen.Warning, "what Slack warned of")
	require.Empty(t, seen.Errors, "errors in the dialog")
	require.True(t, seen.Closed, "the dialog is gone")
}

// shownTo is the text of the modal in front of somebody.
func (o *office) shownTo(t *testing.T, user string) string {
	t.Helper()
	views := o.emu.OpenViews(user)
	require.Len(t, views, 1, "modals open before %s", user)
	return views[0].Text
}

// told is what only this person was shown.
func (o *office) told(user string) []string {
	out := []string{}
	for _, m := range o.emu.Ephemerals(user) {
		out = append(out, m.Text)
	}
	return out
}

// requireTold asserts that the one thing this person was told says this.
func (o *office) requireTold(t *testing.T, user, words string) {
	t.Helper()
	told := o.told(user)
	require.Len(t, told, 1, "what %s was told", user)
	require.Contains(t, told[0], words, "what %s was told", user)
}

func (o *office) events(t *testing.T, id string) []approvals.Event {
	t.Helper()
	events, err := o.store.Events(t.Context(), db.Ref{ID: id}, 0, 1000)
	require.NoError(t, err, "read the events of %s", id)
	return events
}

// last returns the latest event of a ticket, which must be of a type.
func (o *office) last(t *testing.T, id string, typ approvals.EventType) approvals.Event {
	t.Helper()
	events := o.events(t, id)
	e := events[len(events)-1]
	require.Equal(t, typ, e.Type, "the latest event of %s", id)
	return e
}

func (o *office) trail(t *testing.T, id string, types ...approvals.EventType) {
	t.Helper()
	dbtest.RequireTrail(t, o.store, id, append([]approvals.EventType{approvals.EventCreated}, types...)...)
}

// requireRefused asserts that the one thing that happened to a new ticket is a refusal.
func (o *office) requireRefused(t *testing.T, id string, kind approvals.ActorKind, name string, code approvals.Code) {
	t.Helper()
	o.trail(t, id, approvals.EventRefused)
	e := o.last(t, id, approvals.EventRefused)
	require.Equal(t, []any{kind, name, "slack", code}, []any{e.Actor.Kind, e.Actor.Name, e.Actor.Via, e.Data.Refusal.Code}, "who was refused and why")
	require.Empty(t, o.ticket(t, id).Decisions, "decisions")
}

// payload is what pressing a button would send, changed by a test.
func (o *office) payload(t *testing.T, user string, c card, action string, change func(map[string]any)) string {
	t.Helper()
	raw, err := o.emu.Payload(emulator.Action{User: user, Channel: c.channel, TS: c.ts, ActionID: action, Confirm: true})
	require.NoError(t, err, "make a payload")
	if change == nil {
		return form(string(raw))
	}
	var fields map[string]any
	require.NoError(t, json.Unmarshal(raw, &fields), "read a payload")
	change(fields)
	raw, err = json.Marshal(fields)
	require.NoError(t, err, "write a payload")
	return form(string(raw))
}

func form(payload string) string { return "payload=" + url.QueryEscape(payload) }

// set changes a field of a payload, given the way to it.
func set(value any, way ...string) func(map[string]any) {
	return func(at map[string]any) {
		for _, name := range way[:len(way)-1] {
			switch next := at[name].(type) {
			case map[string]any:
				at = next
			case []any:
				at, _ = next[0].(map[string]any)
			}
		}
		at[way[len(way)-1]] = value
	}
}

// send sends a body under an authentic signature.
func (o *office) send(t *testing.T, body string) emulator.RawReply {
	t.Helper()
	return o.sendRaw(t, emulator.Raw{Body: body, Sign: true})
}

func (o *office) sendRaw(t *testing.T, raw emulator.Raw) emulator.RawReply {
	t.Helper()
	reply, err := o.emu.SendRaw(t.Context(), raw)
	require.NoError(t, err, "send a request")
	return reply
}

// newest is the latest request that the workspace has sent.
func (o *office) newest(t *testing.T) emulator.Delivery {
	t.Helper()
	all := o.emu.Deliveries()
	require.NotEmpty(t, all, "requests to the app")
	return all[len(all)-1]
}

// again makes a replay of a request.
func again(d emulator.Delivery) emulator.Raw {
	h := make(map[string]string)
	for _, name := range slices.Collect(maps.Keys(d.Header)) {
		h[name] = d.Header.Get(name)
	}
	return emulator.Raw{Body: d.Body, Query: d.Query, Header: h}
}

// deliver posts a captured request to a server and returns the status.
func deliver(t *testing.T, server string, d emulator.Delivery) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/slack/interactions", strings.NewReader(d.Body))
	require.NoError(t, err, "make a request")
	req.Header = d.Header.Clone()
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "deliver a click")
	defer res.Body.Close() //nolint:errcheck // read to the end below
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err, "read the answer")
	return res.StatusCode
}

// superuser connects to a database with all powers.
func superuser(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err, "connect as superuser")
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func (o *office) sabotage(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := superuser(t, o.pool.Config().ConnString()).Exec(t.Context(), sql, args...)
	require.NoError(t, err, "%s", sql)
}
