package slack

import (
	"errors"
	"fmt"

	slackgo "github.com/slack-go/slack"
)

// Limits of Block Kit, in characters or items.
const (
	maxBlocks      = 50
	maxViewBlocks  = 100
	maxHeaderText  = 150
	maxSectionText = 3000
	maxFieldText   = 2000
	maxFields      = 10
	maxActions     = 25
	maxContext     = 10
	maxButtonText  = 75
	maxButtonValue = 2000
	maxID          = 255
	maxMessageText = 4000
	maxModalLabel  = 24
	maxMetadata    = 3000
	// maxAllText is the text of all blocks together. Slack documents no number.
	maxAllText = 10_000
	// maxViewBytes is a whole view, in bytes of JSON.
	maxViewBytes = 250_000
)

// linter collects what is wrong; characters are counted as UTF-16 does, which is the most
// that Slack can mean by them.
type linter struct {
	problems []error
	ids      map[string]bool
	text     int
	// view says that it is one, whose size is bounded otherwise than that of messages.
	view bool
}

func (l *linter) fail(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// Lint reports everything about a message that Slack would refuse as invalid_blocks,
// msg_blocks_too_long or msg_too_long, joined into one error. Kinds of blocks that no
// message of ours has are reported too, since nothing here knows their limits.
func Lint(m Message) error {
	l := &linter{ids: map[string]bool{}}
	l.length("message text", m.Text, 1, maxMessageText)
	l.items("message blocks", len(m.Blocks), 1, maxBlocks)
	l.blocks(m.Blocks)
	return errors.Join(l.problems...)
}

// LintModal is [Lint] for a modal.
func LintModal(v slackgo.ModalViewRequest) error {
	l := &linter{ids: map[string]bool{}, view: true}
	l.object("modal title", v.Title, maxModalLabel)
	l.object("modal close", v.Close, maxModalLabel)
	if v.Submit != nil {
		l.object("modal submit", v.Submit, maxModalLabel)
	}
	l.surface(v, v.CallbackID, v.PrivateMetadata, v.Blocks.BlockSet, v.Submit != nil)
	return errors.Join(l.problems...)
}

// LintHome is [Lint] for a Home tab.
func LintHome(v slackgo.HomeTabViewRequest) error {
	l := &linter{ids: map[string]bool{}, view: true}
	if v.Type != slackgo.VTHomeTab {
		l.fail("a home tab is of type %q", v.Type)
	}
	l.surface(v, v.CallbackID, v.PrivateMetadata, v.Blocks.BlockSet, false)
	return errors.Join(l.problems...)
}

// surface checks what modals and Home tabs have in common.
func (l *linter) surface(view any, callback, metadata string, blocks []slackgo.Block, submit bool) {
	l.length("callback_id", callback, 0, maxID)
	l.length("private_metadata", metadata, 0, maxMetadata)
	l.items("view blocks", len(blocks), 1, maxViewBlocks)
	for _, b := range blocks {
		if in, ok := b.(*slackgo.InputBlock); ok {
			l.input(in, submit)
			continue
		}
		l.blocks([]slackgo.Block{b})
	}
	if n := len(encode(view)); n > maxViewBytes {
		l.fail("the view has %d bytes, at most %d are allowed", n, maxViewBytes)
	}
}

func (l *linter) blocks(blocks []slackgo.Block) {
	for _, b := range blocks {
		l.id(b.ID())
		switch b := b.(type) {
		case *slackgo.HeaderBlock:
			l.object("header", b.Text, maxHeaderText)
		case *slackgo.SectionBlock:
			l.section(b)
		case *slackgo.ContextBlock:
			l.context(b)
		case *slackgo.RichTextBlock:
			l.items("rich text", len(b.Elements), 1, 1000)
			for _, e := range b.Elements {
				l.richText(e)
			}
		case *slackgo.ActionBlock:
			l.actions(b)
		default:
			l.fail("block %q is of an unknown kind %s", b.ID(), b.BlockType())
		}
	}
	if l.text > maxAllText && !l.view {
		l.fail("%d characters in all blocks, at most %d are safe", l.text, maxAllText)
	}
}

func (l *linter) id(id string) {
	l.length("block_id", id, 1, maxID)
	if l.ids[id] {
		l.fail("block_id %q is used twice", id)
	}
	l.ids[id] = true
}

func (l *linter) section(b *slackgo.SectionBlock) {
	if b.Text == nil && len(b.Fields) == 0 {
		l.fail("section %q has neither text nor fields", b.BlockID)
	}
	if b.Text != nil {
		l.object("section "+b.BlockID, b.Text, maxSectionText)
	}
	if b.Accessory != nil {
		if b.Accessory.ButtonElement == nil {
			l.fail("section %q has an accessory other than a button", b.BlockID)
		} else {
			l.button(b.Accessory.ButtonElement)
		}
	}
	l.items("fields", len(b.Fields), 0, maxFields)
	for _, f := range b.Fields {
		l.object("field of "+b.BlockID, f, maxFieldText)
	}
}

func (l *linter) context(b *slackgo.ContextBlock) {
	l.items("context elements", len(b.ContextElements.Elements), 1, maxContext)
	for _, e := range b.ContextElements.Elements {
		text, ok := e.(*slackgo.TextBlockObject)
		if !ok {
			l.fail("context %q holds something other than text", b.BlockID)
			continue
		}
		l.object("context "+b.BlockID, text, maxSectionText)
	}
}

func (l *linter) richText(e slackgo.RichTextElement) {
	var inline []slackgo.RichTextSectionElement
	switch e := e.(type) {
	case *slackgo.RichTextSection:
		inline = e.Elements
	case *slackgo.RichTextPreformatted:
		inline = e.Elements
	case *slackgo.RichTextQuote:
		inline = e.Elements
	default:
		l.fail("rich text of an unknown kind %s", e.RichTextElementType())
	}
	for _, in := range inline {
		switch in := in.(type) {
		case *slackgo.RichTextSectionTextElement:
			l.length("rich text", in.Text, 1, maxAllText)
			l.text += units(in.Text)
		case *slackgo.RichTextSectionUserElement:
			if !personPattern.MatchString(in.UserID) {
				l.fail("rich text mentions %q, which is no user id", in.UserID)
			}
		default:
			l.fail("rich text holds an unknown kind %s", in.RichTextSectionElementType())
		}
	}
}

func (l *linter) actions(b *slackgo.ActionBlock) {
	l.items("actions", len(b.Elements.ElementSet), 1, maxActions)
	seen := map[string]bool{}
	for _, e := range b.Elements.ElementSet {
		button, ok := e.(*slackgo.ButtonBlockElement)
		if !ok {
			l.fail("actions hold something other than buttons")
			continue
		}
		l.button(button)
		if seen[button.ActionID] {
			l.fail("action_id %q is used twice", button.ActionID)
		}
		seen[button.ActionID] = true
	}
}

func (l *linter) button(b *slackgo.ButtonBlockElement) {
	l.object("button", b.Text, maxButtonText)
	l.length("action_id", b.ActionID, 1, maxID)
	l.length("button value", b.Value, 0, maxButtonValue)
	l.length("accessibility_label", b.AccessibilityLabel, 0, maxButtonText)
	if c := b.Confirm; c != nil {
		l.object("confirm title", c.Title, 100)
		l.object("confirm text", c.Text, 300)
		l.object("confirm button", c.Confirm, 30)
		l.object("confirm deny button", c.Deny, 30)
	}
}

func (l *linter) input(b *slackgo.InputBlock, submit bool) {
	l.id(b.BlockID)
	l.object("input label", b.Label, 2000)
	if !submit {
		l.fail("a modal with an input needs a submit button")
	}
	in, ok := b.Element.(*slackgo.PlainTextInputBlockElement)
	if !ok {
		l.fail("input %q is not a plain text input", b.BlockID)
		return
	}
	l.length("action_id", in.ActionID, 1, maxID)
	if in.MinLength > 3000 || in.MaxLength > 3000 || (in.MaxLength > 0 && in.MinLength > in.MaxLength) {
		l.fail("input %q takes %d to %d characters", b.BlockID, in.MinLength, in.MaxLength)
	}
}

func (l *linter) object(what string, t *slackgo.TextBlockObject, limit int) {
	if t == nil {
		l.fail("%s is missing", what)
		return
	}
	l.length(what, t.Text, 1, limit)
	l.text += units(t.Text)
}

func (l *linter) length(what, text string, low, high int) {
	if n := units(text); n < low || n > high {
		l.fail("%s has %d characters, allowed are %d to %d", what, n, low, high)
	}
}

func (l *linter) items(what string, n, low, high int) {
	if n < low || n > high {
		l.fail("%s: %d, allowed are %d to %d", what, n, low, high)
	}
}
