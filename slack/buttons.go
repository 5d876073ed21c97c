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

// Offers reports whether the card of a view has a button, and shows enough for what it does.
// What a card does not offer, nobody has pressed on it: above all Approve, and breaking the
// glass, where it does not show all of the request. There, Approve leads to the full view.
func Offers(v View, action string) bool {
	if (action == ActionApprove || action == ActionBreakGlass) && !ShowsAll(v) {
		return false
	}
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

// buttons are those of an open card. What cannot be judged, here or in the full view, nobody
// can approve, alone or with others.
func (v View) buttons(shown exhibit) slackgo.Block {
	if !ValidHandle(v.Handle) {
		return nil
	}
	var out []slackgo.BlockElement
	if shown.obstacle == "" {
		out = append(out, v.approveButton(shown))
	}
	out = append(out, v.denyButton())
	if v.Ticket.State == approvals.Pending && v.Ticket.Questions < approvals.MaxQuestions {
		out = append(out, slackgo.NewButtonBlockElement(ActionAsk, v.Handle, plainText("Ask for details…")))
	}
	out = append(out, v.viewButton())
	if shown.obstacle == "" && v.Ticket.Plan.BreakGlass != nil {
		out = append(out, slackgo.NewButtonBlockElement(ActionBreakGlass, v.Handle, plainText("Break glass…")).WithStyle(slackgo.StyleDanger))
	}
	return slackgo.NewActionBlock(blockActions, out...)
}

// approveButton asks back before it is sent, unless the rule does not want that or the full
// view comes first.
func (v View) approveButton(shown exhibit) slackgo.BlockElement {
	c, word, review := v.Ticket.Call, "Approve", v.wantsReview() || !shown.complete
	if review {
		word = "Review"
	}
	text := word
	if review {
		text += "…"
	}
	b := slackgo.NewButtonBlockElement(ActionApprove, v.Handle, plainText(text)).WithStyle(slackgo.StylePrimary)
	b.AccessibilityLabel = shorten(word+" "+c.Method+" "+c.Path+" on "+c.Upstream, 75, oneLine)
	if review || v.confirm() == approvals.ConfirmNone {
		return b
	}
	return b.WithConfirm(slackgo.NewConfirmationBlockObject(plainText("Approve this request?"), plainText(v.confirmation()),
		plainText("Approve"), plainText("Go back")).WithStyle(slackgo.StylePrimary))
}

func (v View) viewButton() slackgo.BlockElement {
	return slackgo.NewButtonBlockElement(ActionView, v.Handle, plainText("View full request"))
}

// confirmation repeats what matters. The card behind it shows all of it, so a long target
// may be cut here.
func (v View) confirmation() string {
	text := shorten(v.Ticket.Call.Method, 10, asciiLine) + " " + shorten(v.target(), roomConfirm, asciiLine) +
		"\nfingerprint " + shorten(v.shownFingerprint(), 64, asciiLine)
	if v.Now.Before(v.Ticket.NotBefore) {
		return text + "\nIt runs after the last approval, not before " + v.Ticket.NotBefore.UTC().Format("2006-01-02 15:04 UTC") + "."
	}
	return text + "\nIt runs at once after the last approval."
}

func (v View) denyButton() slackgo.BlockElement {
	return slackgo.NewButtonBlockElement(ActionDeny, v.Handle, plainText("Deny…")).WithStyle(slackgo.StyleDanger)
}
