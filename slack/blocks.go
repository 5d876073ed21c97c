package slack

import (
	slackgo "github.com/slack-go/slack"
)

// block_ids, one per role and the same in every revision of a card.
const (
	blockHeader  = "hdr"
	blockWho     = "who"
	blockRequest = "req"
	blockNotes   = "notes"
	blockFacts   = "facts"
	blockOutcome = "out"
	blockHash    = "hash"
	blockActions = "act"
)

// plainText never turns :words: into pictures.
func plainText(s string) *slackgo.TextBlockObject {
	return slackgo.NewTextBlockObject(slackgo.PlainTextType, s, false, false)
}

// ours is mrkdwn that we wrote; verbatim, so that Slack makes no links of its own.
func ours(s string) *slackgo.TextBlockObject {
	return slackgo.NewTextBlockObject(slackgo.MarkdownType, s, false, true)
}

func header(text string) slackgo.Block {
	return slackgo.NewHeaderBlock(plainText(text), slackgo.HeaderBlockOptionBlockID(blockHeader))
}

func section(id, text string) slackgo.Block {
	return slackgo.NewSectionBlock(ours(text), nil, nil, slackgo.SectionBlockOptionBlockID(id))
}

func fields(id string, texts ...string) slackgo.Block {
	var objects []*slackgo.TextBlockObject
	for _, t := range texts {
		objects = append(objects, ours(t))
	}
	return slackgo.NewSectionBlock(nil, objects, nil, slackgo.SectionBlockOptionBlockID(id))
}

func contextLine(id, text string) slackgo.Block {
	return slackgo.NewContextBlock(id, ours(text))
}

func rich(id string, elements ...slackgo.RichTextElement) slackgo.Block {
	return slackgo.NewRichTextBlock(id, elements...)
}

func preformatted(text string) slackgo.RichTextElement {
	return &slackgo.RichTextPreformatted{Type: slackgo.RTEPreformatted, Elements: []slackgo.RichTextSectionElement{literal(text)}}
}

func quote(text string) slackgo.RichTextElement {
	return &slackgo.RichTextQuote{Type: slackgo.RTEQuote, Elements: []slackgo.RichTextSectionElement{literal(text)}}
}

// label is a bold line of ours above what somebody wrote.
func label(text string) slackgo.RichTextElement { return slackgo.NewRichTextSection(bold(text)) }

// bold is our own words in rich text.
func bold(text string) slackgo.RichTextSectionElement {
	return slackgo.NewRichTextSectionTextElement(text, &slackgo.RichTextSectionTextStyle{Bold: true})
}

// literal is text that Slack shows as it is: no links, no mentions, no pictures.
func literal(text string) slackgo.RichTextSectionElement {
	return slackgo.NewRichTextSectionTextElement(text, nil)
}
