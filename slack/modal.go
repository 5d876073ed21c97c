package slack

import (
	"encoding/json"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// Bounds of a reason, in characters as Slack counts them. The domain's limit is
// [approvals.MaxComment] bytes, which text beyond ASCII reaches sooner: answer its refusal
// with [AckError].
const (
	MinReason = 5
	MaxReason = approvals.MaxComment
)

// DenyModal renders the modal that asks why, to be opened within 3 s of the click. It
// carries v.Handle and nothing else; whoever sends it off is checked again then.
func DenyModal(v View) slackgo.ModalViewRequest {
	input := slackgo.NewPlainTextInputBlockElement(nil, ReasonAction).WithMultiline(true).WithMinLength(MinReason).WithMaxLength(MaxReason)
	input.FocusOnLoad = true
	return slackgo.ModalViewRequest{
		Type: slackgo.VTModal, CallbackID: CallbackDeny, PrivateMetadata: pointer{v.Handle}.encode(),
		Title: plainText("Deny request"), Submit: plainText("Deny"), Close: plainText("Cancel"),
		Blocks: slackgo.Blocks{BlockSet: []slackgo.Block{
			rich(blockRequest, preformatted(v.exhibit(roomLine).line)),
			contextLine(blockHash, "Request fingerprint "+v.fingerprint()),
			slackgo.NewInputBlock(ReasonBlock, plainText("Reason (sent to the requester and kept in the audit log)"), nil, input),
		}},
	}
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
