package slack

import (
	"unicode"
	"unicode/utf8"

	"countersign/approvals"
)

// refusals say to a person why their click was not counted, where the domain's own words
// would not help them.
var refusals = map[approvals.Code]string{
	approvals.CodeNotApprover:    "You are not an approver for this request, so your click was not counted. Its card says who it is waiting for.",
	approvals.CodeSelfApproval:   "You count as the requester of this call, so somebody else has to decide on it. Your click was not counted.",
	approvals.CodeAlreadyDecided: "You have already decided on this request, and that decision stands. Each person counts once.",
	approvals.CodeDigestMismatch: "This button belongs to something other than what the request holds now, so your click was not counted. Please use its newest card.",
	approvals.CodeExpired:        "This request has expired, so your click was not counted. Nothing was sent.",
	approvals.CodeNotFound:       "This button no longer leads to a request, so nothing was counted.",
	approvals.CodeAway: "You are marked as away, so your click was not counted. Until you are back, your delegate decides in your place. " +
		"If you are back already, ask whoever keeps Countersign's configuration to end your absence.",
	approvals.CodeCommentRequired: "This rule wants a comment with that decision, so it was not counted yet. " +
		"Press the button again and say why, in a few words.",
	approvals.CodeStalePolicy: "The policy has become stricter since this was approved, so people are asked again. Nothing was sent. " +
		"Please use the newest card of this request.",
}

// domain are the codes whose own message tells a person what they need and nothing secret.
var domain = map[approvals.Code]bool{
	approvals.CodeConflict: true, approvals.CodeAlreadyFinal: true, approvals.CodeStale: true,
	approvals.CodeNeededLater: true, approvals.CodeNotNeeded: true, approvals.CodeInvalid: true,
}

// Refusal turns a domain error into a sentence or two for the person who clicked, in plain
// text. For a code it does not know, "" included, it says that the click was not counted
// and repeats nothing of message.
func Refusal(code approvals.Code, message string) string {
	if text, ok := refusals[code]; ok {
		return text
	}
	if domain[code] && message != "" {
		return "Your click was not counted. " + capital(shorten(message, 300, oneLine)) + "."
	}
	return "Something went wrong on our side and your click was not counted. Please try again in a moment."
}

// RefusalToBypass is [Refusal] for somebody who tried to break the glass: to decide with
// everybody else may still be open to them.
func RefusalToBypass(code approvals.Code, message string) string {
	if code == approvals.CodeNotApprover {
		return "You may not break the glass for this request, so nothing was done. Its card says who it is waiting for."
	}
	return Refusal(code, message)
}

func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
