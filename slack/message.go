package slack

import (
	"crypto/sha256"
	"encoding/hex"

	slackgo "github.com/slack-go/slack"
)

// HomeView is a Home tab, for those who do not import Slack's library.
type HomeView = slackgo.HomeTabViewRequest

// ModalView is a modal, for those who do not import Slack's library.
type ModalView = slackgo.ModalViewRequest

// Message is what is posted: blocks, and one sentence for notifications and screen readers,
// already escaped.
type Message struct {
	Text   string
	Blocks []slackgo.Block
}

// JSON returns the text and the blocks as Slack is given them: the same bytes for the same
// message.
func (m Message) JSON() []byte {
	return encode(struct {
		Text   string          `json:"text"`
		Blocks []slackgo.Block `json:"blocks"`
	}{m.Text, m.Blocks})
}

// Hash is the SHA-256 of [Message.JSON], in hex.
func (m Message) Hash() string { return hashOf(m.JSON()) }

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
