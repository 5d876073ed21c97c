package interact_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/directory"
	"countersign/egress"
	"countersign/interact"
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
	appToken       slack.Secret = "xapp-emulator" //nolint:gosec // the emulator's own
	publicURL                   = "https://countersign.example.com"
)

var fingerprintKey = []byte("a key of the install, for tests!")

func fingerprint(t approvals.Ticket) string { return approvals.Fingerprint(fingerprintKey, t.Digest) }

func TestMain(m *testing.M) { dbtest.Main(m) }

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logBuffer is a buffer that requests may log into at the same time.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

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

// office is a desk with an emulated Slack workspace whose requests it takes.
type office struct {
	emu    *emulator.Server
	client *slack.Client
	facts  *directory.Source
	desk   *interact.Desk
	url    string // where the desk listens
	pool   *pgxpool.Pool
	store  *db.Store
	outbox *dbtest.Outbox
	clock  *clock
	logs   *logBuffer
	base   atomic.Pointer[policy.Config]
	super  *pgx.Conn // made by admin
	change []func(*interact.Config)
	// configure loads the configuration with somebody else in bo's place in the group.
	configure func(member string)
	// rewrite loads it with some of its text replaced.
	rewrite func(oldNew ...string)
}

// unhurried is how long Slack waits in tests, which are not about speed.
const unhurried = 60 * time.Second

// openOffice opens an office. What is changed of its desk is so in every replica.
func openOffice(t *testing.T, change ...func(*interact.Config)) *office {
	t.Helper()
	o := &office{
		emu: emulator.New(emulator.Config{
			Workspace: emulator.Demo(), AckTimeout: unhurried, Scopes: append(emulator.DefaultScopes(), "users:read.email"),
		}),
		outbox: &dbtest.Outbox{}, pool: dbtest.Pool(t), logs: &logBuffer{}, clock: &clock{}, change: change,
	}
	workspace := httptest.NewServer(o.emu)
	t.Cleanup(workspace.Close)
	t.Cleanup(o.emu.Close)
	o.emu.SetBaseURL(workspace.URL)
	var err error
	o.client, err = slack.New(slack.Config{
		Token: emulatorToken, APIURL: o.emu.APIURL(), HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}), Timeout: unhurried,
	})
	require.NoError(t, err, "make a Slack client")
	o.store = dbtest.Store(t, o.pool, o.outbox)
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT now()`).Scan(&o.clock.at), "set the clock by the database's")
	o.useConfiguration(t)
	o.facts = o.directory(t, o.store)
	o.desk = o.newDesk(t, o.store, o.facts)
	o.url = serve(t, o.desk)
	o.listenAt(o.url)
	return o
}

// listenAt has Slack send everything to a server.
func (o *office) listenAt(url string) {
	o.emu.SetInteractionsURL(url + interact.PathInteractions)
	o.emu.SetCommandsURL(url + interact.PathCommands)
	o.emu.SetEventsURL(url + interact.PathEvents)
}

func serve(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	listener := httptest.NewServer(h)
	t.Cleanup(listener.Close)
	return listener.URL
}

func (o *office) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(o.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (o *office) directory(t *testing.T, store *db.Store) *directory.Source {
	t.Helper()
	facts, err := directory.New(directory.Config{
		Store: store, Client: o.client, Policy: o.base.Load, ClickBudget: unhurried, Now: o.clock.now, Logger: o.logger(),
	})
	require.NoError(t, err, "make a directory")
	return facts
}

// newDesk makes a desk as the service does.
func (o *office) newDesk(t *testing.T, store *db.Store, facts *directory.Source) *interact.Desk {
	t.Helper()
	verifier, err := slack.NewVerifier(slack.VerifierConfig{SigningSecrets: []slack.Secret{emulatorSecret}, Now: o.clock.now})
	require.NoError(t, err, "make a verifier")
	c := interact.Config{
		Store: store, Policy: facts.Known, Verifier: verifier, Client: o.client, PublicURL: publicURL, FingerprintKey: fingerprintKey,
		Fresh: func(ctx context.Context, need interact.FreshNeed) (*policy.Config, error) {
			return facts.Fresh(ctx, need.Users, need.Groups)
		},
		Budget: unhurried, Now: o.clock.now, Logger: o.logger(),
	}
	for _, f := range o.change {
		f(&c)
	}
	desk, err := interact.New(c)
	require.NoError(t, err, "make a desk")
	return desk
}

func (o *office) useConfiguration(t *testing.T) {
	t.Helper()
	_, hash, err := policy.NewKey()
	require.NoError(t, err, "make a key")
	load := func(text string) {
		config, err := policy.Parse("test.yaml", []byte(text), func(string) string { return string(emulatorSecret) })
		require.NoError(t, err, "load the configuration")
		o.base.Store(config)
	}
	text := func(member string) string { return fmt.Sprintf(slackConfiguration, o.emu.APIURL(), hash, member) }
	o.configure = func(member string) { load(text(member)) }
	o.rewrite = func(oldNew ...string) { load(strings.NewReplacer(oldNew...).Replace(text("bo"))) }
	o.configure("bo")
}

// submit opens a ticket, as the caller payroll does, and returns its id.
func (o *office) submit(t *testing.T, body string) string {
	t.Helper()
	var asked struct {
		Upstream, Method, Path, Body, Justification, Query string
	}
	require.NoError(t, json.Unmarshal([]byte(body), &asked), "read a call")
	id, err := uuid.NewV7()
	require.NoError(t, err, "make an id")
	config := o.facts.Policy()
	caller, known := config.Caller("payroll")
	require.True(t, known, "the caller is known")
	call := approvals.Call{Upstream: asked.Upstream, Method: asked.Method, Path: asked.Path, Query: asked.Query, Body: []byte(asked.Body)}
	if len(call.Body) == 0 {
		call.Body = nil
	}
	res, err := o.store.Submit(t.Context(), db.SubmitRequest{
		Submission: approvals.Submission{ID: approvals.TicketID(id), Caller: "payroll", Justification: asked.Justification, Call: call},
		Plan:       config.Plan(caller, "", call, o.clock.now()), Directory: config.Directory().At(o.clock.now()),
		Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: id.String()},
	})
	require.NoError(t, err, "submit %s", body)
	return res.Ticket.ID
}

// card is a ticket's card in the workspace.
type card struct{ ticket, channel, ts, handle string }

// ask submits a call and posts the card of its first stage.
func (o *office) ask(t *testing.T, body string) card {
	t.Helper()
	return o.show(t, o.submit(t, body))
}

// show posts the card of a ticket's current stage, as the notify job does.
func (o *office) show(t *testing.T, id string) card {
	t.Helper()
	prepared, ticket := o.prepare(t, id)
	message := slack.Card(o.viewOf(ticket, prepared))
	ref, err := o.client.Post(t.Context(), prepared.Channel, message, slack.PostOptions{})
	require.NoError(t, err, "post the card of %s", id)
	hash, err := o.store.KeepRendering(t.Context(), id, message.JSON())
	require.NoError(t, err, "keep what is shown")
	require.NoError(t, o.store.CardPosted(t.Context(), prepared.Handle, ref.Channel, ref.TS, ticket.Version), "note where the card is")
	require.NoError(t, o.store.CardShown(t.Context(), prepared.Handle, ticket.Version, hash), "note what it shows")
	return card{ticket: id, channel: ref.Channel, ts: ref.TS, handle: prepared.Handle}
}

func (o *office) prepare(t *testing.T, id string) (db.Card, approvals.Ticket) {
	t.Helper()
	ticket := o.ticket(t, id)
	prepared, err := o.store.PrepareCard(t.Context(), db.NewCard{
		TicketID: id, Stage: ticket.Stage, Channel: ticket.Plan.Stages[ticket.Stage].Channel, Digest: ticket.Digest,
	})
	require.NoError(t, err, "prepare the card of %s", id)
	return prepared, ticket
}

func (o *office) viewOf(ticket approvals.Ticket, c db.Card) slack.View {
	config := o.facts.Policy()
	dir := config.Directory()
	return slack.View{
		Ticket: ticket, Tally: ticket.Tally(c.Stage, dir), Directory: dir, Now: o.clock.now(), Stage: c.Stage, Handle: c.Handle,
		PublicURL: publicURL, BaseURL: "https://billing.internal/v1", Fingerprint: fingerprint(ticket), Confirm: config.Confirm(ticket),
	}
}

func (o *office) ticket(t *testing.T, id string) approvals.Ticket {
	t.Helper()
	ticket, err := o.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "read ticket %s", id)
	return ticket
}

// click presses a button and confirms.
func (o *office) click(t *testing.T, user string, c card, action string) emulator.Seen {
	t.Helper()
	seen, err := o.emu.Click(t.Context(), user, c.channel, c.ts, action, true)
	require.NoError(t, err, "%s presses %s", user, action)
	require.True(t, seen.Sent, "the click is sent")
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
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+interact.PathInteractions, strings.NewReader(d.Body))
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

// admin is one connection with all powers, for questions in a loop.
func (o *office) admin(t *testing.T) *pgx.Conn {
	t.Helper()
	if o.super == nil {
		o.super = superuser(t, o.pool.Config().ConnString())
	}
	return o.super
}

func (o *office) sabotage(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := superuser(t, o.pool.Config().ConnString()).Exec(t.Context(), sql, args...)
	require.NoError(t, err, "%s", sql)
}

// long is a call with a body that no card has the room for.
func long(call string) string {
	return strings.Replace(call, `"justification"`, `"body":"`+strings.Repeat("x", 40_000)+`","justification"`, 1)
}

// turn presses a button of the full view that is open, and returns what is open then.
func (o *office) turn(t *testing.T, user string, v *emulator.View, action string) *emulator.View {
	t.Helper()
	seen, err := o.emu.Do(t.Context(), emulator.Action{User: user, ViewID: v.ID, ActionID: action})
	require.NoError(t, err, "%s presses %s", user, action)
	require.Empty(t, seen.Warning, "what Slack warned of")
	for _, open := range o.emu.OpenViews(user) {
		if open.ID == v.ID {
			return &open
		}
	}
	require.FailNow(t, "the full view is gone")
	return nil
}

// readToTheEnd has bo turn the pages of a full view until the last, and returns it as it is then.
func (o *office) readToTheEnd(t *testing.T, v *emulator.View) *emulator.View {
	t.Helper()
	for range slack.MaxReviewPages {
		if !strings.Contains(v.Text, "Next page") {
			return v
		}
		v = o.turn(t, bo, v, slack.ActionNext)
	}
	require.FailNow(t, "the full view has no end")
	return nil
}
