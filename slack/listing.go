package slack

import (
	"fmt"
	"time"

	slackgo "github.com/slack-go/slack"
)

// MaxListing is how many requests a listing shows at most; with long names fewer fit.
const MaxListing = 15

// Listing renders requests as an answer that only one person sees. Title is ours. What is
// beyond [MaxListing] is counted and not shown.
func Listing(title string, items []HomeItem, now time.Time) Message {
	text := fmt.Sprintf("%s: %s", title, plural(len(items), "request", "requests"))
	m := Message{Text: mrkdwn(text, 300), Blocks: []slackgo.Block{
		header(shorten(text, maxHeaderText, oneLine)),
	}}
	if len(items) == 0 {
		m.Blocks = append(m.Blocks, contextLine("none", "There is none. `/approvals help` says what else can be listed."))
		return m
	}
	shown, l := 0, linter{ids: map[string]bool{}}
	for _, item := range items[:min(len(items), MaxListing)] {
		blocks := item.blocks(fmt.Sprintf("i:%d", shown), now)
		if l.blocks(blocks); l.text > roomListing {
			break
		}
		m.Blocks = append(m.Blocks, blocks...)
		shown++
	}
	if left := len(items) - shown; left > 0 {
		m.Blocks = append(m.Blocks, contextLine("more", "…and "+grouped(left)+" more. The Home tab shows more of them."))
	}
	return m
}

// Help renders what /approvals can do.
func Help() Message {
	return Message{Text: "What /approvals can do", Blocks: []slackgo.Block{
		header("What /approvals can do"),
		section("help", "`/approvals` lists what waits for your decision.\n"+
			"`/approvals mine` lists requests that were made for you, and how they stand.\n"+
			"`/approvals show tkt_…` shows one request.\n"+
			"`/approvals link` says how your Slack account is tied to you.\n"+
			"`/approvals help` shows this.\n\n"+
			"Answers are seen by you alone. Decisions are made on the cards, or in the full view that *Review* opens."),
	}}
}
