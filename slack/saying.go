package slack

import slackgo "github.com/slack-go/slack"

// Saying is a message that says something of ours in plain text: it mentions nobody and holds
// no link. It has a block like every other message, so that it can answer a command.
func Saying(text string) Message {
	text = shorten(orDash(text), 2500, lines)
	return Message{
		Text:   mrkdwn(text, 2500),
		Blocks: []slackgo.Block{slackgo.NewSectionBlock(plainText(text), nil, nil, slackgo.SectionBlockOptionBlockID("said"))},
	}
}

// Elsewhere renders what takes the place of a card in a channel that has come to be shared
// with another organisation: nothing of its request. It keeps a block of rich text, without which Slack would refuse the update.
func Elsewhere() Message {
	const text = "This request is shown elsewhere, because this channel is shared with another organisation now."
	return Message{Text: text, Blocks: []slackgo.Block{
		rich(blockRequest, slackgo.NewRichTextSection(slackgo.NewRichTextSectionTextElement(text, nil))), // rich text, as the card had
	}}
}
