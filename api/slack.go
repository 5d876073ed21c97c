package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

const (
	// slackBudget bounds our own calls to Slack while Slack waits for our answer; it
	// gives up after 3 s.
	slackBudget = 1200 * time.Millisecond
	// decideBudget bounds what comes before.
	decideBudget = 1500 * time.Millisecond
)

// InteractionsConfig says what clicks in Slack work with.
type InteractionsConfig struct {
	Store  *db.Store
	Policy func() *policy.Config
	// Verifier tells Slack's requests from everybody else's, Client answers people.
	Verifier *slack.Verifier
	Client   *slack.Client
	// PublicURL is where links lead. Now is the clock.
	PublicURL string
	Now       func() time.Time
	Logger    *slog.Logger
}

// Interactions takes clicks and modals from Slack: verify the raw bytes, find the ticket
// by the opaque handle, decide in one transaction, then answer. Nothing in the payload is
// believed but who clicked, where, and on which handle.
type Interactions struct{ c InteractionsConfig }

// NewInteractions makes the handler for POST /slack/interactions. Every field is required.
func NewInteractions(c InteractionsConfig) (*Interactions, error) {
	if c.Store == nil || c.Policy == nil || c.Verifier == nil || c.Client == nil || c.Now == nil || c.Logger == nil {
		return nil, errors.New("api.NewInteractions: every field is required")
	}
	return &Interactions{c: c}, nil
}

// ServeHTTP answers one interaction: 401 when it is not Slack's, 400 when it cannot be
// read, 503 when it could not be carried out, else 200. To Slack anything but 200 means
// that the person sees a warning and may press again.
func (h *Interactions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, slack.MaxInteraction))
	if err != nil {
		slackProblem(w, r, codeBadRequest, "the body cannot be read")
		return
	}
	if err := h.c.Verifier.Verify(r.Header, raw); err != nil {
		h.c.Logger.WarnContext(r.Context(), "refused a request to the Slack endpoint", "error", err)
		slackProblem(w, r, codeUnauthenticated, "the request is not signed by Slack")
		return
	}
	in, err := slack.ParseInteraction(raw)
	if err != nil {
		h.c.Logger.WarnContext(r.Context(), "unreadable Slack interaction", "error", err)
		slackProblem(w, r, codeBadRequest, "the interaction cannot be read")
		return
	}
	h.take(w, r, in, slack.ReplayKey(r.Header))
}

// slackProblem answers Slack with a problem document. Slack shows the person a warning
// and keeps the body to itself.
func slackProblem(w http.ResponseWriter, r *http.Request, code, detail string) {
	kind := problemKinds[code]
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(kind.status)
	_ = json.NewEncoder(w).Encode(Problem{ // the person at the other end has gone: nobody to tell
		Type: kind.uri(code), Title: kind.title, Status: kind.status, Code: code, Detail: detail, Instance: r.URL.Path,
		RequestID: w.Header().Get("X-Request-Id"),
	})
}

// take carries out an authentic interaction once.
func (h *Interactions) take(w http.ResponseWriter, r *http.Request, in slack.Interaction, replayKey string) {
	ctx, cancel := context.WithTimeout(r.Context(), decideBudget)
	defer cancel()
	fresh, err := h.c.Store.TakeInbound(ctx, replayKey)
	if err != nil {
		h.c.Logger.ErrorContext(ctx, "cannot take a Slack interaction", "error", err)
		slackProblem(w, r, codeUnavailable, "the database is unavailable")
		return
	}
	if !fresh {
		w.WriteHeader(http.StatusOK) // a replay: what it asked for has been done
		return
	}
	if in.Type == slack.ViewSubmission {
		h.submitted(ctx, w, in)
		return
	}
	if text := h.clicked(ctx, in); text != "" {
		h.tell(r.Context(), in, text)
	}
	w.WriteHeader(http.StatusOK)
}

// clicked handles a button and returns what to tell the person, "" when the card says it.
func (h *Interactions) clicked(ctx context.Context, in slack.Interaction) string {
	switch {
	case in.Type != slack.BlockActions:
		return ""
	case in.ActionID == slack.ActionApprove:
		return h.sentence(ctx, h.decide(ctx, in, approvals.Approve, ""))
	case in.ActionID == slack.ActionDeny:
		return h.askWhy(ctx, in)
	}
	return ""
}

// submitted handles the deny modal. Its answer decides what the modal does next.
func (h *Interactions) submitted(ctx context.Context, w http.ResponseWriter, in slack.Interaction) {
	if in.View.CallbackID != slack.CallbackDeny {
		w.WriteHeader(http.StatusOK)
		return
	}
	err := h.decide(ctx, in, approvals.Deny, in.Reason())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case err == nil:
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusOK)
	case approvals.ErrorCode(err) == approvals.CodeInvalid:
		_, _ = w.Write(slack.AckError(slack.ReasonBlock, h.sentence(ctx, err)))
	default:
		_, _ = w.Write(slack.AckNotice(h.sentence(ctx, err)))
	}
}

// decide records a verdict on what the card showed.
func (h *Interactions) decide(ctx context.Context, in slack.Interaction, verdict approvals.Verdict, comment string) error {
	card, err := h.card(ctx, in)
	if err != nil {
		return err
	}
	dir := h.c.Policy().Directory()
	actor, known := h.actor(in, dir)
	_, err = h.c.Store.Advance(ctx, db.Ref{ID: card.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if !known {
			return t.Stranger(actor, string(verdict), now)
		}
		return t.Decide(actor, approvals.Decision{
			Person: actor.Name, Verdict: verdict, Stage: card.Stage, Comment: comment, Digest: card.Digest, MessageTS: card.TS,
		}, dir, now)
	})
	return err
}

// askWhy opens the deny modal for somebody who may deny. Somebody who may not is refused
// now, and on record, rather than after writing a reason; who may is judged again when the
// reason comes.
func (h *Interactions) askWhy(ctx context.Context, in slack.Interaction) string {
	card, err := h.card(ctx, in)
	if err != nil {
		return h.sentence(ctx, err)
	}
	t, err := h.c.Store.Ticket(ctx, db.Ref{ID: card.TicketID})
	if err != nil {
		return h.sentence(ctx, err)
	}
	dir := h.c.Policy().Directory()
	actor, known := h.actor(in, dir)
	dry := approvals.Decision{Person: actor.Name, Verdict: approvals.Deny, Stage: card.Stage, Digest: card.Digest}
	if _, err := t.Decide(actor, dry, dir, h.c.Now()); !known || err != nil {
		return h.sentence(ctx, h.decideRefused(ctx, in, err))
	}
	v := slack.View{Ticket: t, Tally: t.Tally(card.Stage, dir), Directory: dir, Stage: card.Stage, Handle: card.Handle, PublicURL: h.c.PublicURL}
	open, cancel := context.WithTimeout(ctx, slackBudget)
	defer cancel()
	if err := h.c.Client.OpenView(open, in.TriggerID, slack.DenyModal(v)); err != nil {
		return "Slack was slow to open the dialog. Please press Deny again."
	}
	return ""
}

// decideRefused runs the refusal for real, so that it is recorded. Should the verb allow
// it by now, nothing is decided: the person has given no reason yet.
func (h *Interactions) decideRefused(ctx context.Context, in slack.Interaction, why error) error {
	card, err := h.card(ctx, in)
	if err != nil {
		return err
	}
	dir := h.c.Policy().Directory()
	actor, known := h.actor(in, dir)
	_, err = h.c.Store.Advance(ctx, db.Ref{ID: card.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if !known {
			return t.Stranger(actor, string(approvals.Deny), now)
		}
		tr, err := t.Decide(actor, approvals.Decision{
			Person: actor.Name, Verdict: approvals.Deny, Stage: card.Stage, Digest: card.Digest,
		}, dir, now)
		if err == nil {
			return approvals.Transition{}, why
		}
		return tr, err
	})
	return err
}

var errElsewhere = &approvals.Error{Code: approvals.CodeNotFound, Message: "the button is not on a card of ours"}

// card finds what a button belongs to. A handle pressed in another conversation than its
// card's was copied; in the same one it is an orphan copy, which counts as the card.
func (h *Interactions) card(ctx context.Context, in slack.Interaction) (db.Card, error) {
	c := h.c.Policy().Slack
	if in.AppID != c.AppID || !slices.Contains(c.TeamIDs, in.TeamID) {
		h.c.Logger.WarnContext(ctx, "a click from another workspace or app", "team", in.TeamID, "app", in.AppID)
		return db.Card{}, errElsewhere
	}
	card, err := h.c.Store.CardByHandle(ctx, in.Handle)
	if err != nil {
		return db.Card{}, err
	}
	if in.Type == slack.BlockActions && card.PostedTo != "" && card.PostedTo != in.Channel {
		h.c.Logger.WarnContext(ctx, "a button pressed outside its conversation", "ticket_id", card.TicketID,
			"channel", in.Channel, "user", in.User.ID)
		return db.Card{}, errElsewhere
	}
	return card, nil
}

// actor says who clicked: a person of the configuration, from one of our workspaces, or
// a stranger.
func (h *Interactions) actor(in slack.Interaction, dir approvals.Directory) (approvals.Actor, bool) {
	ref := in.User.TeamID + "/" + in.User.ID
	p, ok := dir.BySlack(in.User.ID)
	if !ok || !slices.Contains(h.c.Policy().Slack.TeamIDs, in.User.TeamID) {
		return approvals.Actor{Kind: approvals.ActorStranger, Name: in.User.ID, Via: "slack", Ref: ref}, false
	}
	return approvals.Actor{Kind: approvals.ActorPerson, Name: p.Name, Via: "slack", Ref: ref}, true
}

// sentence turns an error into words for the person; "" for none.
func (h *Interactions) sentence(ctx context.Context, err error) string {
	if err == nil {
		return ""
	}
	var refusal *approvals.Error
	if errors.As(err, &refusal) {
		return slack.Refusal(refusal.Code, refusal.Message)
	}
	h.c.Logger.ErrorContext(ctx, "cannot carry out a Slack interaction", "error", err)
	return slack.Refusal("", "")
}

// tell shows a text to the one who clicked. It is a courtesy: what counts is recorded.
func (h *Interactions) tell(ctx context.Context, in slack.Interaction, text string) {
	if in.ResponseURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slackBudget)
	defer cancel()
	if err := h.c.Client.Respond(ctx, in.ResponseURL, text); err != nil {
		h.c.Logger.WarnContext(ctx, "cannot answer in Slack", "error", err)
	}
}
