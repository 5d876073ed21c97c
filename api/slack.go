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
	known  bool    // whether actor is a person of the configuration
	card   db.Card // what the handle leads to
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
		h.answerModal(ctx, w, h.submitted(deciding, p))
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
	switch {
	case p.Type != slack.BlockActions:
		return nil // a modal closed
	case p.ActionID == slack.ActionApprove:
		_, err := h.put(ctx, p, approvals.Approve, "", true)
		return err
	case p.ActionID == slack.ActionDeny:
		return h.askWhy(ctx, p)
	}
	return errElsewhere
}

// submitted handles a modal.
func (h *Interactions) submitted(ctx context.Context, p *press) error {
	if p.View.CallbackID != slack.CallbackDeny {
		return errElsewhere
	}
	// Slack counts spaces, and checks in the person's own client.
	reason := strings.TrimSpace(p.Reason())
	if utf8.RuneCountInString(reason) < slack.MinReason {
		return &approvals.Error{
			Code: approvals.CodeInvalid, Message: fmt.Sprintf("please give a reason, in at least %d characters", slack.MinReason),
		}
	}
	_, err := h.put(ctx, p, approvals.Deny, reason, true)
	return err
}

// errUnopened means that Slack would not open a dialog.
var errUnopened = errors.New("cannot open a dialog")

// askWhy opens the deny modal for somebody who may deny. Somebody who may not is refused
// now, and on record, rather than after writing a reason; who may is judged again when the
// reason comes.
func (h *Interactions) askWhy(ctx context.Context, p *press) error {
	t, err := h.put(ctx, p, approvals.Deny, "", false)
	if err != nil {
		return err
	}
	if err := h.c.Client.OpenView(ctx, p.TriggerID, slack.DenyModal(h.view(p, t))); err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	return nil
}

// put puts a verdict to the ticket whose card it was given on. What the domain refuses is
// recorded and returned as its error; what it allows is committed if commit says so.
func (h *Interactions) put(ctx context.Context, p *press, verdict approvals.Verdict, comment string, commit bool) (approvals.Ticket, error) {
	if err := h.findCard(ctx, p); err != nil {
		return approvals.Ticket{}, err
	}
	d := approvals.Decision{
		Person: p.actor.Name, Verdict: verdict, Stage: p.card.Stage, Comment: comment, Digest: p.card.Digest, MessageTS: p.messageTS(),
	}
	return h.c.Store.Advance(ctx, db.Ref{ID: p.card.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if !p.known {
			return t.Stranger(p.actor, string(verdict), now)
		}
		tr, err := t.Decide(p.actor, d, p.dir, now)
		switch {
		case err == nil && verdict == approvals.Approve && !offered(h.view(p, t), slack.ActionApprove):
			// Our card has no such button, because it cannot show all of the request: this one
			// was on something else.
			unseen := d
			unseen.Digest = ""
			return t.Decide(p.actor, unseen, p.dir, now)
		case err == nil && !commit:
			return approvals.Transition{}, nil
		}
		return tr, err
	})
}

// view is what the card is rendered from.
func (h *Interactions) view(p *press, t approvals.Ticket) slack.View {
	v := slack.View{
		Ticket: t, Tally: t.Tally(p.card.Stage, p.dir), Directory: p.dir, Stage: p.card.Stage, Handle: p.card.Handle,
		PublicURL: h.c.PublicURL,
	}
	if up, ok := p.config.Upstream(t.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}

// offered reports whether the card, as it stands now, has a button.
func offered(v slack.View, action string) bool {
	var blocks []struct {
		Elements []struct {
			ActionID string `json:"action_id"`
		} `json:"elements"`
	}
	raw, err := json.Marshal(slack.Card(v).Blocks)
	if err != nil || json.Unmarshal(raw, &blocks) != nil {
		return false
	}
	for _, b := range blocks {
		for _, e := range b.Elements {
			if e.ActionID == action {
				return true
			}
		}
	}
	return false
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
	told := h.tell(ctx, p.Interaction, h.sentence(ctx, err))
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
func (h *Interactions) answerModal(ctx context.Context, w http.ResponseWriter, err error) {
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	text := h.sentence(ctx, err)
	answer := slack.AckError(slack.ReasonBlock, text)
	var refusal *approvals.Error
	if errors.As(err, &refusal) && refusal.Code != approvals.CodeInvalid {
		answer = slack.AckNotice(text)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(answer) // the person at the other end has gone: nobody to tell
}

// sentence turns an error into words for the person.
func (h *Interactions) sentence(ctx context.Context, err error) string {
	var refusal *approvals.Error
	if errors.As(err, &refusal) {
		return slack.Refusal(refusal.Code, refusal.Message)
	}
	h.c.Logger.ErrorContext(ctx, "cannot carry out a Slack interaction", slog.Any("error", err))
	if errors.Is(err, errUnopened) {
		return "Slack did not open the dialog in time. Please press Deny again."
	}
	return slack.Refusal("", "")
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
