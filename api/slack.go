package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

// Slack gives up on an answer after 3 s, the way to us and back included.
const (
	// ackBudget bounds all that comes before our answer.
	ackBudget = 2 * time.Second
	// decideBudget bounds what comes before telling the person about it: the decision, and
	// opening a dialog.
	decideBudget = 1200 * time.Millisecond
)

// InteractionsConfig says what clicks in Slack work with.
type InteractionsConfig struct {
	// Store keeps the tickets. Required.
	Store *db.Store
	// Policy returns the configuration in force; every interaction sees one snapshot of it.
	// Required.
	Policy func() *policy.Config
	// Verifier tells Slack's requests from everybody else's. Required.
	Verifier *slack.Verifier
	// Client opens dialogs and answers people. Required.
	Client *slack.Client
	// PublicURL is where the links of dialogs lead: what cards are rendered with, too. Empty:
	// no links.
	PublicURL string
	// Now is the clock that bounds how often forgeries are logged. Required.
	Now func() time.Time
	// Logger takes what an operator should know. Required.
	Logger *slog.Logger
}

// Interactions takes clicks and modals from Slack: verify the raw bytes, find the ticket
// by the opaque handle, decide in one transaction, then answer. Nothing in the payload is
// believed but who clicked, where, what kind of button, and on which handle.
type Interactions struct {
	c       InteractionsConfig
	forgers *throttle
}

// NewInteractions makes the handler for POST /slack/interactions. Every field but PublicURL
// is required.
func NewInteractions(c InteractionsConfig) (*Interactions, error) {
	if c.Store == nil || c.Policy == nil || c.Verifier == nil || c.Client == nil || c.Now == nil || c.Logger == nil {
		return nil, errors.New("api.NewInteractions: every field but PublicURL is required")
	}
	return &Interactions{c: c, forgers: newThrottle()}, nil
}

// ServeHTTP answers one interaction: 401 when it is not Slack's or was taken before, 400
// when it cannot be read, 413 over 1 MiB, 503 when it could not be carried out, else 200.
// To Slack anything but 200 means that the person sees a warning and may press again.
func (h *Interactions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slack.MaxInteraction))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		slackProblem(w, r, codeBodyTooLarge, "the request body is over the limit")
		return
	case err != nil:
		slackProblem(w, r, codeBadRequest, "the body cannot be read")
		return
	}
	if err := h.c.Verifier.Verify(r.Header, raw); err != nil {
		h.warnOfForgery(r, err)
		slackProblem(w, r, codeUnauthenticated, "the request is not signed by Slack")
		return
	}
	in, err := slack.ParseInteraction(raw)
	if err != nil {
		h.c.Logger.WarnContext(r.Context(), "unreadable Slack interaction", slog.Any("error", err))
		slackProblem(w, r, codeBadRequest, "the interaction cannot be read")
		return
	}
	h.take(w, r, in, slack.ReplayKey(r.Header))
}

// warnOfForgery says in the log why a request is not Slack's, but not as often as somebody
// can send one: every request has its own line anyway.
func (h *Interactions) warnOfForgery(r *http.Request, err error) {
	ip, _, splitErr := net.SplitHostPort(r.RemoteAddr)
	if splitErr != nil {
		ip = "" // whatever it is shares one allowance
	}
	if h.forgers.allow(ip, h.c.Now()) {
		h.c.Logger.WarnContext(r.Context(), "refused a request to the Slack endpoint", slog.Any("error", err))
	}
}

// slackProblem answers Slack with a problem document. Slack shows the person a warning
// and keeps the body to itself.
func slackProblem(w http.ResponseWriter, r *http.Request, code, detail string) {
	exchangeOf(r.Context()).code = code
	kind := problemKinds[code]
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(kind.status)
	_ = json.NewEncoder(w).Encode(Problem{ // the person at the other end has gone: nobody to tell
		Type: kind.uri(code), Title: kind.title, Status: kind.status, Code: code, Detail: detail, Instance: r.URL.Path,
		RequestID: w.Header().Get("X-Request-Id"),
	})
}

var errReplayed = errors.New("a request that was taken before")

// press is one interaction, judged by one snapshot of the configuration.
type press struct {
	slack.Interaction
	config *policy.Config
	dir    approvals.Directory
	actor  approvals.Actor
	known  bool      // whether actor is a person of the configuration
	card   db.Card   // what the handle leads to
	now    time.Time // the database's, once the ticket has been read
}

// take carries out an authentic interaction, once. It is claimed before it is carried out:
// should this process die in between, the click is lost, and the person, who sees a warning,
// presses again under a new signature. The other way round a replay could be recorded as a
// refusal again. A second delivery is for the same reason never answered as done. A click
// that has arrived counts even if whoever waits for the answer has hung up.
func (h *Interactions) take(w http.ResponseWriter, r *http.Request, in slack.Interaction, replayKey string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ackBudget)
	defer cancel()
	deciding, stop := context.WithTimeout(ctx, decideBudget)
	defer stop()
	fresh, err := h.c.Store.TakeInbound(deciding, replayKey)
	switch {
	case err != nil:
		h.c.Logger.ErrorContext(ctx, "cannot take a Slack interaction", slog.Any("error", err))
		slackProblem(w, r, codeUnavailable, "the database is unavailable")
		return
	case !fresh:
		h.warnOfForgery(r, errReplayed)
		slackProblem(w, r, codeUnauthenticated, "this request was taken before")
		return
	}
	p := h.press(in)
	if in.Type == slack.ViewSubmission {
		h.answerModal(ctx, w, p, h.submitted(deciding, p))
		return
	}
	h.answerClick(ctx, w, r, p, h.clicked(deciding, p))
}

// press says who pressed: a person of the configuration, from one of our workspaces, or a
// stranger.
func (h *Interactions) press(in slack.Interaction) *press {
	config := h.c.Policy()
	p := &press{Interaction: in, config: config, dir: config.Directory()}
	person, known := p.dir.BySlack(in.User.ID)
	p.known = known && slices.Contains(config.Slack.TeamIDs, in.User.TeamID)
	p.actor = approvals.Actor{Kind: approvals.ActorStranger, Name: in.User.ID, Via: "slack", Ref: in.User.TeamID + "/" + in.User.ID}
	if p.known {
		p.actor.Kind, p.actor.Name = approvals.ActorPerson, person.Name
	}
	return p
}

// clicked handles a button.
func (h *Interactions) clicked(ctx context.Context, p *press) error {
	if p.Type != slack.BlockActions {
		return nil // a modal closed
	}
	switch p.ActionID {
	case slack.ActionApprove:
		_, err := h.put(ctx, p, decide(approvals.Approve, ""), true)
		if approvals.ErrorCode(err) != approvals.CodeCommentRequired {
			return err
		}
		return h.open(ctx, p)
	case slack.ActionDeny, slack.ActionAsk, slack.ActionBreakGlass:
		return h.open(ctx, p)
	}
	return errElsewhere
}

// submitted handles a modal.
func (h *Interactions) submitted(ctx context.Context, p *press) error {
	// Slack counts spaces, and checks in the person's own client.
	a, ok := attemptOf(p.View.CallbackID, strings.TrimSpace(p.Typed()))
	if !ok {
		return errElsewhere
	}
	_, err := h.put(ctx, p, a, true)
	return err
}

// attempt is what somebody tries to do with a ticket.
type attempt struct {
	// verdict is what they say, "" for a question.
	verdict approvals.Verdict
	text    string
}

func decide(verdict approvals.Verdict, comment string) attempt { return attempt{verdict, comment} }

// attemptOf is what a button, or the modal that it opens, is for.
func attemptOf(action, text string) (a attempt, ok bool) {
	switch action {
	case slack.ActionApprove:
		return decide(approvals.Approve, text), true
	case slack.ActionDeny:
		return decide(approvals.Deny, text), true
	case slack.ActionBreakGlass:
		return decide(approvals.GlassBroken, text), true
	case slack.ActionAsk:
		return attempt{text: text}, true
	}
	return attempt{}, false
}

// name is what the audit trail calls it.
func (a attempt) name() string {
	if a.verdict == "" {
		return "ask"
	}
	return string(a.verdict)
}

// approves reports whether it can send the call on its way, which nobody may do who was not
// shown all of it.
func (a attempt) approves() bool {
	return a.verdict == approvals.Approve || a.verdict == approvals.GlassBroken
}

// brief says that what was typed is too short. Only a reason may be left out, where the rule
// does not ask for one.
func (a attempt) brief(t approvals.Ticket, stage int) error {
	what := "comment"
	switch {
	case utf8.RuneCountInString(a.text) >= slack.MinTyped,
		a.verdict == approvals.Deny && !slack.CommentRequired(t, stage, approvals.Deny):
		return nil
	case a.verdict == "":
		what = "question"
	case a.verdict == approvals.Deny:
		what = "reason"
	}
	return &approvals.Error{
		Code: approvals.CodeInvalid, Message: fmt.Sprintf("please give a %s, in at least %d characters", what, slack.MinTyped),
	}
}

// errUnopened means that Slack would not open a dialog.
var errUnopened = errors.New("cannot open a dialog")

// placeholder stands for what is yet to be typed. It is never committed.
const placeholder = "not typed yet"

// open opens the modal of a button for somebody who may use it. Somebody who may not is
// refused now, and on record, rather than after writing a reason; who may is judged again
// when it comes.
func (h *Interactions) open(ctx context.Context, p *press) error {
	a, _ := attemptOf(p.ActionID, placeholder)
	t, err := h.put(ctx, p, a, false)
	if err != nil {
		return err
	}
	modal, _ := slack.Modal(h.view(p, t), p.ActionID)
	if err := h.c.Client.OpenView(ctx, p.TriggerID, modal); err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	return nil
}

// put puts what somebody tries to the ticket on whose card they try it. What the domain
// refuses is recorded and returned as its error; what it allows is committed if commit
// says so.
func (h *Interactions) put(ctx context.Context, p *press, a attempt, commit bool) (approvals.Ticket, error) {
	if err := h.findCard(ctx, p); err != nil {
		return approvals.Ticket{}, err
	}
	return h.c.Store.Advance(ctx, db.Ref{ID: p.card.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		p.now = now
		if !p.known {
			return t.Stranger(p.actor, a.name(), now)
		}
		tr, err := h.judge(p, t, a)
		if err == nil && !commit {
			return approvals.Transition{}, nil
		}
		return tr, err
	})
}

// judge says what comes of an attempt. Whether it is allowed at all comes first: only who
// may decide is told that something is missing.
func (h *Interactions) judge(p *press, t approvals.Ticket, a attempt) (approvals.Transition, error) {
	if a.verdict == "" {
		return h.ask(p, t, a)
	}
	d := approvals.Decision{
		Person: p.actor.Name, Verdict: a.verdict, Stage: p.card.Stage, Comment: a.text, Digest: p.card.Digest, MessageTS: p.messageTS(),
	}
	tr, err := t.Decide(p.actor, d, p.dir, p.now)
	allowed := err == nil || approvals.ErrorCode(err) == approvals.CodeCommentRequired
	if allowed && a.approves() && !h.offered(p, t, a) {
		// Our card has no such button, because it cannot show all of the request: this one
		// was on something else.
		d.Digest = ""
		return t.Decide(p.actor, d, p.dir, p.now)
	}
	if allowed && p.Type == slack.ViewSubmission {
		if short := a.brief(t, p.card.Stage); short != nil {
			return approvals.Transition{}, short
		}
	}
	return tr, err
}

// ask puts a question. One from a card that no longer shows what the ticket holds is no
// question about it.
func (h *Interactions) ask(p *press, t approvals.Ticket, a attempt) (approvals.Transition, error) {
	text := a.text
	if text == "" {
		text = placeholder // whether they may ask is said before whether they have
	}
	tr, err := t.Ask(p.actor, approvals.Question{Person: p.actor.Name, Text: text}, p.dir, p.now)
	if err != nil {
		return tr, err
	}
	// Ask judges the stage that is now, and knows nothing of cards.
	switch {
	case p.card.Digest != t.Digest:
		return t.Refuse(p.actor, "ask", &approvals.Error{Code: approvals.CodeDigestMismatch, Message: "the card shows something else"}, p.now)
	case p.card.Stage != t.Stage:
		return t.Refuse(p.actor, "ask", &approvals.Error{Code: approvals.CodeStale, Message: "that stage is over; please ask on its newest card"}, p.now)
	}
	if short := a.brief(t, p.card.Stage); short != nil {
		return approvals.Transition{}, short
	}
	return tr, nil
}

// offered reports whether the ticket's card, as it stands now, has the button of an
// attempt. Breaking the glass is not about a stage: any card of the ticket is as good.
func (h *Interactions) offered(p *press, t approvals.Ticket, a attempt) bool {
	v := h.view(p, t)
	if a.verdict == approvals.GlassBroken {
		v.Stage, v.Tally = t.Stage, t.Tally(t.Stage, p.dir.At(p.now))
		return slack.Offers(v, slack.ActionBreakGlass)
	}
	return slack.Offers(v, slack.ActionApprove)
}

// view is what the card is rendered from, but for the answers to questions: they make no
// difference to what can be pressed.
func (h *Interactions) view(p *press, t approvals.Ticket) slack.View {
	v := slack.View{
		Ticket: t, Tally: t.Tally(p.card.Stage, p.dir.At(p.now)), Directory: p.dir, Now: p.now, Stage: p.card.Stage, Handle: p.card.Handle,
		PublicURL: h.c.PublicURL,
	}
	if up, ok := p.config.Upstream(t.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}

var errElsewhere = &approvals.Error{Code: approvals.CodeNotFound, Message: "the button is not on a card of ours"}

// findCard finds what a button belongs to. A handle pressed in another conversation than
// its card's was copied, and so was one that only one person sees; elsewhere in the same
// conversation it is an orphan copy, which counts as the card.
func (h *Interactions) findCard(ctx context.Context, p *press) error {
	if p.AppID != p.config.Slack.AppID || !slices.Contains(p.config.Slack.TeamIDs, p.TeamID) {
		h.c.Logger.WarnContext(ctx, "a click from another workspace or app", slog.String("team", p.TeamID),
			slog.String("app", p.AppID), slog.String("user", p.User.ID))
		return errElsewhere
	}
	card, err := h.c.Store.CardByHandle(ctx, p.Handle)
	if err != nil {
		return err
	}
	exchangeOf(ctx).ticket = card.TicketID
	if p.Type == slack.BlockActions && (p.Ephemeral || !at(card, p.Channel)) {
		h.c.Logger.WarnContext(ctx, "a button pressed outside its conversation", slog.String("ticket_id", card.TicketID),
			slog.String("channel", p.Channel), slog.String("user", p.User.ID))
		return errElsewhere
	}
	p.card = card
	return nil
}

var channelID = regexp.MustCompile(`^[CG][A-Z0-9]+$`)

// at reports whether a card is in a conversation. Where it is, is known once Slack's answer
// to the post has been written down; until then where it was to go counts, if that is an id
// and not a name.
func at(card db.Card, conversation string) bool {
	where := card.PostedTo
	if where == "" && channelID.MatchString(card.Channel) {
		where = card.Channel
	}
	return where == "" || where == conversation
}

var timestamp = regexp.MustCompile(`^[0-9]{1,16}\.[0-9]{1,12}$`)

// messageTS is the message that was pressed on, which is evidence and therefore bounded; a
// modal's is that of the card it was opened from.
func (p *press) messageTS() string {
	if timestamp.MatchString(p.MessageTS) {
		return p.MessageTS
	}
	return p.card.TS
}

// answerClick tells the person, and then Slack, what came of a click.
func (h *Interactions) answerClick(ctx context.Context, w http.ResponseWriter, r *http.Request, p *press, err error) {
	if err == nil {
		w.WriteHeader(http.StatusOK) // the card, or the dialog, says it
		return
	}
	told := h.tell(ctx, p.Interaction, h.sentence(ctx, p, err))
	var refusal *approvals.Error
	switch {
	case errors.As(err, &refusal), told && errors.Is(err, errUnopened):
		w.WriteHeader(http.StatusOK)
	default:
		slackProblem(w, r, codeUnavailable, "the click could not be carried out")
	}
}

// answerModal says what the modal does next: close; stay, with what was typed, where that
// can be corrected or sent again; or become a notice.
func (h *Interactions) answerModal(ctx context.Context, w http.ResponseWriter, p *press, err error) {
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	text, input := h.sentence(ctx, p, err), slack.InputOf(p.View.CallbackID)
	answer := slack.AckError(input, text)
	var refusal *approvals.Error
	if input == "" || (errors.As(err, &refusal) && refusal.Code != approvals.CodeInvalid) {
		answer = slack.AckNotice(text)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(answer) // the person at the other end has gone: nobody to tell
}

// sentence turns an error into words for the person.
func (h *Interactions) sentence(ctx context.Context, p *press, err error) string {
	var refusal *approvals.Error
	switch {
	case errors.As(err, &refusal) && (p.ActionID == slack.ActionBreakGlass || p.View.CallbackID == slack.CallbackBreakGlass):
		return slack.RefusalToBypass(refusal.Code, refusal.Message)
	case errors.As(err, &refusal):
		return slack.Refusal(refusal.Code, refusal.Message)
	}
	h.c.Logger.ErrorContext(ctx, "cannot carry out a Slack interaction", slog.Any("error", err))
	if errors.Is(err, errUnopened) {
		return "Slack did not open the dialog in time. Please press " + buttonNames[p.ActionID] + " again."
	}
	return slack.Refusal("", "")
}

// buttonNames are what people read on the buttons that open dialogs.
var buttonNames = map[string]string{
	slack.ActionApprove: "Approve", slack.ActionDeny: "Deny", slack.ActionAsk: "Ask for details", slack.ActionBreakGlass: "Break glass",
}

// tell shows a text to the one who clicked, and reports whether it could. It is a courtesy:
// what counts is recorded.
func (h *Interactions) tell(ctx context.Context, in slack.Interaction, text string) bool {
	if in.ResponseURL == "" {
		return false
	}
	err := h.c.Client.Respond(ctx, in.ResponseURL, text)
	if err != nil {
		h.c.Logger.WarnContext(ctx, "cannot answer in Slack", slog.Any("error", err))
	}
	return err == nil
}
