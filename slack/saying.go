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
