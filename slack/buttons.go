package slack

import (
	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// CommentRequired reports whether a decision on a stage needs a comment of its giver. It is
// false for a stage that is not there.
func CommentRequired(t approvals.Ticket, stage int, verdict approvals.Verdict) bool {
	if verdict == approvals.GlassBroken {
		return true
	}
	if stage < 0 || stage >= len(t.Plan.Stages) {
		return false
	}
	switch rule := t.Plan.Stages[stage].Comment; verdict {
	case approvals.Approve:
		return rule == approvals.CommentApprove || rule == approvals.CommentBoth
	case approvals.Deny:
		return rule == approvals.CommentDeny || rule == approvals.CommentBoth
	case approvals.GlassBroken:
	}
	return false
}

// Offers reports whether the card of a view has a button. What a card does not offer,
// nobody has pressed on it: above all Approve, where it cannot show all of the request.
func Offers(v View, action string) bool {
	for _, b := range Card(v).Blocks {
		actions, ok := b.(*slackgo.ActionBlock)
		if !ok {
			continue
		}
		for _, e := range actions.Elements.ElementSet {
			if button, ok := e.(*slackgo.ButtonBlockElement); ok && button.ActionID == action {
				return true
			}
		}
	}
	return false
}

// buttons are those of an open card. Only what shows all of the request lets anybody
// approve it, alone or with others.
func (v View) buttons(shown exhibit) slackgo.Block {
	if !ValidHandle(v.Handle) {
		return nil
	}
	var out []slackgo.BlockElement
	if shown.complete {
		out = append(out, v.approveButton())
	}
	out = append(out, v.denyButton())
	if v.Ticket.State == approvals.Pending && v.Ticket.Questions < approvals.MaxQuestions {
		out = append(out, slackgo.NewButtonBlockElement(ActionAsk, v.Handle, plainText("Ask for details…")))
	}
	if shown.complete && v.Ticket.Plan.BreakGlass != nil {
		out = append(out, slackgo.NewButtonBlockElement(ActionBreakGlass, v.Handle, plainText("Break glass…")).WithStyle(slackgo.StyleDanger))
	}
	return slackgo.NewActionBlock(blockActions, out...)
}

// approveButton asks back before it is sent; where a comment is asked for, the modal does.
func (v View) approveButton() slackgo.BlockElement {
	c, text := v.Ticket.Call, "Approve"
	modal := CommentRequired(v.Ticket, v.Stage, approvals.Approve)
	if modal {
		text += "…"
	}
	b := slackgo.NewButtonBlockElement(ActionApprove, v.Handle, plainText(text)).WithStyle(slackgo.StylePrimary)
	b.AccessibilityLabel = shorten("Approve "+c.Method+" "+c.Path+" on "+c.Upstream, 75, oneLine)
	if modal {
		return b
	}
	return b.WithConfirm(slackgo.NewConfirmationBlockObject(plainText("Approve this request?"), plainText(v.confirmation()),
		plainText("Approve"), plainText("Go back")).WithStyle(slackgo.StylePrimary))
}

// confirmation repeats what matters. The card behind it shows all of it, so a long target
// may be cut here.
func (v View) confirmation() string {
	text := shorten(v.Ticket.Call.Method, 10, asciiLine) + " " + shorten(v.target(), roomConfirm, asciiLine) +
		"\nfingerprint " + shorten(approvals.Fingerprint(v.Ticket.Digest), 64, asciiLine)
	if v.Now.Before(v.Ticket.NotBefore) {
		return text + "\nIt runs after the last approval, not before " + v.Ticket.NotBefore.UTC().Format("2006-01-02 15:04 UTC") + "."
	}
	return text + "\nIt runs at once after the last approval."
}

func (v View) denyButton() slackgo.BlockElement {
	return slackgo.NewButtonBlockElement(ActionDeny, v.Handle, plainText("Deny…")).WithStyle(slackgo.StyleDanger)
}
