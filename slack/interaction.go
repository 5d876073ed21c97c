package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// MaxInteraction is the largest body, in bytes, that [ParseInteraction] reads.
const MaxInteraction = 1 << 20

// ErrMalformed is the one error of [ParseInteraction], [ParseCommand] and [ParseEvent]. Its
// text says what was wrong and repeats nothing of the body.
var ErrMalformed = errors.New("malformed request")

// InteractionType says what a person did.
type InteractionType string

const (
	// BlockActions is a click on a button.
	BlockActions InteractionType = "block_actions"
	// ViewSubmission is a modal sent off.
	ViewSubmission InteractionType = "view_submission"
	// ViewClosed is a modal closed without sending it off.
	ViewClosed InteractionType = "view_closed"
)

// The action ids of a card's buttons. What a click does is said by these; what it is done
// to, by the handle alone.
const (
	ActionApprove    = "cs.approve"
	ActionDeny       = "cs.deny"
	ActionAsk        = "cs.ask"
	ActionBreakGlass = "cs.break_glass"
	// ActionView opens the full view of a request, and changes nothing.
	ActionView = "cs.view"
	// ActionAnswer opens the modal of [AnswerModal].
	ActionAnswer = "cs.answer"
	// ActionNext and ActionPrev turn the pages of the full view that they are in.
	ActionNext = "cs.next"
	ActionPrev = "cs.prev"
)

// The callback ids of the modals that buttons open, each that of its button.
const (
	CallbackApprove    = ActionApprove
	CallbackDeny       = ActionDeny
	CallbackAsk        = ActionAsk
	CallbackBreakGlass = ActionBreakGlass
	CallbackAnswer     = ActionAnswer
	// CallbackView is that of the pages of a full view that cannot be sent off. The one that
	// can has CallbackApprove.
	CallbackView = ActionView
)

// The inputs of the modals, one in each, where what was typed is found and errors are shown;
// see [InputOf]. All have the action id InputAction.
const (
	ReasonBlock   = "reason"
	CommentBlock  = "comment"
	QuestionBlock = "question"
	AnswerBlock   = "answer"
	// CodeBlock is a second input, on the last page of a full view; see [Interaction.Code].
	CodeBlock   = "code"
	InputAction = "v"
)

// InputOf returns the block_id of a modal's one input, by the modal's callback id; "" for a
// modal that is none of ours.
func InputOf(callbackID string) string {
	switch callbackID {
	case CallbackDeny:
		return ReasonBlock
	case CallbackApprove, CallbackBreakGlass:
		return CommentBlock
	case CallbackAsk:
		return QuestionBlock
	case CallbackAnswer:
		return AnswerBlock
	}
	return ""
}

// Interaction is what Countersign believes of an authentic interaction: who, where, and
// which handle. Fields that do not apply are empty.
type Interaction struct {
	Type InteractionType
	// TeamID is the workspace of the context, which in shared channels is not always that
	// of the person; EnterpriseID is the Grid organisation. At least one is set.
	TeamID, EnterpriseID string
	// EnterpriseInstall says that the app is installed for the whole organisation.
	EnterpriseInstall bool
	AppID             string
	User              User
	// Surface is what it was done on.
	Surface Surface
	// Channel, MessageTS and ThreadTS say on which message a button was pressed.
	Channel, MessageTS, ThreadTS string
	// Ephemeral says that the message is one that only this person sees.
	Ephemeral bool
	ActionID  string
	// Handle is the opaque pointer in the button's value or the modal's private_metadata:
	// that of a card, for which [ValidHandle] holds, or of a full view that somebody has open,
	// for which [ValidReview] does.
	Handle string
	// TriggerID opens a modal, once and within 3 s.
	TriggerID   string
	ResponseURL string
	// View is set for modals and Home tabs.
	View ModalState
}

// Surface is where in Slack a person did something.
type Surface string

const (
	// SurfaceMessage is a message: a card, or a list that only one person sees.
	SurfaceMessage Surface = "message"
	// SurfaceModal is a modal.
	SurfaceModal Surface = "modal"
	// SurfaceHome is a Home tab.
	SurfaceHome Surface = "home"
)

// User is who did it. ID is only unique within TeamID, the person's home workspace.
type User struct{ ID, TeamID string }

// ModalState is a modal as it was sent off.
type ModalState struct {
	ID, CallbackID, Hash string
	// State holds what was typed, by block_id and action_id.
	State map[string]map[string]string
}

// Typed returns what was typed into a modal of ours: a reason, a comment or a question.
func (i Interaction) Typed() string { return i.View.State[InputOf(i.View.CallbackID)][InputAction] }

// Code returns the digits of the fingerprint that were typed into the full view of a
// request whose rule wants them, without spaces.
func (i Interaction) Code() string {
	return strings.Join(strings.Fields(i.View.State[CodeBlock][InputAction]), "")
}

// ParseInteraction reads the body of an interaction whose signature [Verifier.Verify] has
// accepted. Only these bytes count: what stands in a URL's query was not signed. The body
// must be a form with exactly one payload, at most [MaxInteraction] bytes long; every
// error is [ErrMalformed].
func ParseInteraction(raw []byte) (Interaction, error) {
	if len(raw) > MaxInteraction {
		return Interaction{}, malformed("more than %d bytes", MaxInteraction)
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return Interaction{}, malformed("not a form")
	}
	if n := len(form["payload"]); n != 1 {
		return Interaction{}, malformed("%d payloads", n)
	}
	return parsePayload([]byte(form["payload"][0]))
}

// ParseInteractionJSON is [ParseInteraction] for the payload of an envelope of Socket Mode,
// which comes without a form.
func ParseInteractionJSON(raw []byte) (Interaction, error) { return parsePayload(raw) }

func parsePayload(raw []byte) (Interaction, error) {
	if err := bounded(raw); err != nil {
		return Interaction{}, err
	}
	var p payload
	if err := json.Unmarshal(raw, &p); err != nil {
		return Interaction{}, malformed("not the JSON of an interaction")
	}
	if err := p.check(); err != nil {
		return Interaction{}, err
	}
	if p.Type == BlockActions {
		return p.click()
	}
	return p.modal()
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
