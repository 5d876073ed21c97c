package slack

import (
	"encoding/json"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// Bounds of what is typed into a modal, in characters as Slack counts them. The limits of
// the domain, [approvals.MaxComment] and [approvals.MaxQuestion], are in bytes, which text
// beyond ASCII reaches sooner: answer its refusal with [AckError].
const (
	MinTyped    = 5
	MaxReason   = approvals.MaxComment
	MaxQuestion = approvals.MaxQuestion
)

// Modal renders the modal that a button opens, to be opened within 3 s of the click. It
// carries v.Handle and nothing else; whoever sends it off is checked again then. False for
// a button that opens none, such as Approve, which leads to a [Review] if to anything.
func Modal(v View, action string) (slackgo.ModalViewRequest, bool) {
	switch action {
	case ActionDeny:
		return DenyModal(v), true
	case ActionAsk:
		return AskModal(v), true
	case ActionBreakGlass:
		return BreakGlassModal(v), true
	case ActionAnswer:
		return AnswerModal(v), true
	}
	return slackgo.ModalViewRequest{}, false
}

// DenyModal asks why. Where the rule does not want to know, a reason is optional.
func DenyModal(v View) slackgo.ModalViewRequest {
	return v.modal(CallbackDeny, "Deny request", "Deny", nil, typing(ReasonBlock, "Reason (sent to the requester and kept in the audit log)",
		MaxReason, CommentRequired(v.Ticket, v.Stage, approvals.Deny)))
}

// AskModal asks what somebody wants to know before they decide.
func AskModal(v View) slackgo.ModalViewRequest {
	return v.modal(CallbackAsk, "Ask for details", "Send question",
		section(blockOutcome, "Reminders and escalation rest until it is answered. The deadline does not: the request still expires "+
			date(v.Ticket.ExpiresAt)+"."),
		typing(QuestionBlock, "Question (sent to the requester and kept in the audit log)", MaxQuestion, true))
}

// BreakGlassModal says what it means to break the glass, and asks why.
func BreakGlassModal(v View) slackgo.ModalViewRequest {
	text := ":rotating_light: *You approve this call alone.* That bypasses " +
		plural(toGo(v.Ticket, v.Directory.At(v.Now)), "approval that is missing", "approvals that are missing") + ", and the call is sent once, "
	if hour := v.hour(); hour != "" {
		text += hour[len(", "):]
	} else {
		text += "now"
	}
	text += ". It is recorded as glass broken by you"
	if where := v.rooms(); len(where) > 0 {
		text += ", and announced as that in " + list(where, " and ") + " with your name and comment"
	}
	return v.modal(CallbackBreakGlass, "Break glass", "Break glass", section(blockOutcome, text+"."),
		typing(CommentBlock, "Why it cannot wait (announced and kept in the audit log)", MaxReason, true))
}

// modal shows which request it is about, what sending it off does, and one input.
func (v View) modal(callback, title, submit string, effect, input slackgo.Block) slackgo.ModalViewRequest {
	blocks := []slackgo.Block{
		rich(blockRequest, preformatted(v.line(roomLine))),
		contextLine(blockHash, "Request fingerprint "+v.fingerprint()),
	}
	if effect != nil {
		blocks = append(blocks, effect)
	}
	return slackgo.ModalViewRequest{
		Type: slackgo.VTModal, CallbackID: callback, PrivateMetadata: pointer{v.Handle}.encode(),
		Title: plainText(title), Submit: plainText(submit), Close: plainText("Cancel"),
		Blocks: slackgo.Blocks{BlockSet: append(blocks, input)},
	}
}

// typing is an input for a few lines of text.
func typing(id, label string, longest int, required bool) slackgo.Block {
	block := written(id, label, longest, required)
	block.Element.(*slackgo.PlainTextInputBlockElement).FocusOnLoad = true
	return block
}

// written is typing for a view that begins with something to read.
func written(id, label string, longest int, required bool) *slackgo.InputBlock {
	input := slackgo.NewPlainTextInputBlockElement(nil, InputAction).WithMultiline(true).WithMaxLength(longest)
	if required {
		input = input.WithMinLength(MinTyped)
	}
	return slackgo.NewInputBlock(id, plainText(label), nil, input).WithOptional(!required)
}

// AckError is the answer to a view_submission that keeps the modal open and shows text
// below the input of block, such as [ReasonBlock]. Send it with status 200 as
// application/json; anything else shows as Slack's own error.
func AckError(block, text string) []byte {
	return encode(map[string]any{"response_action": "errors", "errors": map[string]string{block: shorten(text, 500, lines)}})
}

// AckNotice is the answer to a view_submission that replaces the modal by a text, for when
// there is nothing left to correct. Send it as [AckError].
func AckNotice(text string) []byte {
	return encode(map[string]any{"response_action": "update", "view": Notice(text)})
}

// Notice renders a modal that only says something, in plain text.
func Notice(text string) slackgo.ModalViewRequest {
	return slackgo.ModalViewRequest{
		Type: slackgo.VTModal, Title: plainText("Countersign"), Close: plainText("Close"),
		Blocks: slackgo.Blocks{BlockSet: []slackgo.Block{
			slackgo.NewSectionBlock(plainText(shorten(orDash(text), 2900, lines)), nil, nil, slackgo.SectionBlockOptionBlockID(blockOutcome)),
		}},
	}
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func encode(v any) []byte {
	raw, _ := json.Marshal(v) // strings, and views made here, always marshal
	return raw
}
