package slack

import (
	"fmt"
	"time"

	slackgo "github.com/slack-go/slack"
)

// CallbackHome is the callback id of the Home tab.
const CallbackHome = "cs.home"

// Most requests that each part of the Home tab shows.
const (
	MaxHomeWaiting  = 20
	MaxHomeAsked    = 10
	MaxHomeRequests = 10
)

// HomeTab is what one person finds on their Home tab.
type HomeTab struct {
	// Waiting are the requests that wait for them, Asked those with a question of theirs that
	// is open, Requests those that were made for them. What is beyond [MaxHomeWaiting],
	// [MaxHomeAsked] and [MaxHomeRequests] is counted and not shown.
	Waiting, Asked, Requests []HomeItem
	// More counts those that are not even in the lists. Zero: none.
	More HomeMore
	// Notice is shown above all else, in plain text: to somebody who is not known yet, why
	// there is nothing to see. Zero: none, and all three parts are shown. With a notice and
	// empty lists nothing else is.
	Notice string
	// Now is when it is rendered.
	Now time.Time
}

// HomeMore counts requests that are left out of a [HomeTab].
type HomeMore struct{ Waiting, Asked, Requests int }

// HomeItem is one request in a list.
type HomeItem struct {
	View View
	// Handle is what its Review button carries; see [ValidHandle]. Zero: no button.
	Handle string
	// Permalink leads to its card. Zero: no link.
	Permalink string
	// Note is a few words of ours about it, in plain text. Zero: none.
	Note string
}

// Home renders a Home tab, within the limits of Block Kit for any input.
func Home(h HomeTab) slackgo.HomeTabViewRequest {
	var blocks []slackgo.Block
	if h.Notice != "" {
		blocks = append(blocks, slackgo.NewSectionBlock(plainText(shorten(h.Notice, 2900, lines)), nil, nil, slackgo.SectionBlockOptionBlockID("notice")))
	}
	if h.Notice == "" || len(h.Waiting)+len(h.Asked)+len(h.Requests) > 0 {
		blocks = append(blocks, h.part("w", "Waiting for you", "Nothing waits for your decision. Requests that you may approve or deny appear here by themselves.", h.Waiting, h.More.Waiting, MaxHomeWaiting)...)
		blocks = append(blocks, h.part("a", "You asked", "No question of yours is open. Ask for details on a card, and the request stays here until it is answered.", h.Asked, h.More.Asked, MaxHomeAsked)...)
		blocks = append(blocks, h.part("r", "Your requests", "Nothing was requested for you. Calls that are made on your behalf, or by a caller you own, appear here.", h.Requests, h.More.Requests, MaxHomeRequests)...)
	}
	blocks = append(blocks, contextLine("foot", "Updated "+stamp(h.Now, "{date_short_pretty} {time_secs}", "2006-01-02 15:04:05 UTC")+
		" · `/approvals help` says what else there is."))
	return slackgo.HomeTabViewRequest{Type: slackgo.VTHomeTab, CallbackID: CallbackHome, Blocks: slackgo.Blocks{BlockSet: blocks}}
}

// part is one list of the Home tab below its heading; id tells its blocks from the others'.
func (h HomeTab) part(id, title, empty string, items []HomeItem, more, most int) []slackgo.Block {
	all := len(items) + max(more, 0)
	items = items[:min(len(items), most)]
	blocks := []slackgo.Block{slackgo.NewHeaderBlock(plainText(fmt.Sprintf("%s (%s)", title, grouped(all))), slackgo.HeaderBlockOptionBlockID(id))}
	if all == 0 {
		return append(blocks, contextLine(id+":none", empty))
	}
	blocks = append(blocks, itemBlocks(id, items, h.Now)...)
	if left := all - len(items); left > 0 {
		blocks = append(blocks, contextLine(id+":more", "…and "+grouped(left)+" more."))
	}
	return blocks
}

// itemBlocks shows each request.
func itemBlocks(id string, items []HomeItem, now time.Time) (out []slackgo.Block) {
	for i, item := range items {
		out = append(out, item.blocks(fmt.Sprintf("%s:%d", id, i), now)...)
	}
	return out
}

// blocks are the line of a request, which its caller wrote, and ours below it.
func (i HomeItem) blocks(id string, now time.Time) []slackgo.Block {
	v := i.View
	v.Now = now
	if i.Permalink != "" {
		v.Permalink = i.Permalink
	}
	facts := slackgo.NewSectionBlock(ours(v.summary(i.Note)), nil, nil, slackgo.SectionBlockOptionBlockID(id))
	if ValidHandle(i.Handle) {
		review := slackgo.NewButtonBlockElement(ActionView, i.Handle, plainText("Review"))
		review.AccessibilityLabel = shorten("Review "+v.Ticket.Call.Method+" "+v.Ticket.Call.Path, 75, asciiLine)
		facts.Accessory = slackgo.NewAccessory(review)
	}
	return []slackgo.Block{rich(id+":req", preformatted(v.line(roomItem))), facts}
}

// summary is a request in two lines of ours: what it is and how it stands, and where to
// find it.
func (v View) summary(note string) string {
	t := v.Ticket
	text := "*" + mrkdwn(v.title(), roomName) + "* · " + mrkdwn(t.Call.Upstream, roomName) + " · rule " + code(t.Plan.Rule, roomName)
	if t.State.Open() {
		if _, ok := v.stage(); ok {
			text += " · " + v.place()
		}
		text += " · expires " + date(t.ExpiresAt)
	} else if t.State.Final() {
		text += " · closed " + date(t.FinishedAt)
	}
	text += "\nRequested by *" + mrkdwn(t.Caller, roomName) + "* · " + v.ticketLink() + " · fingerprint " + v.fingerprint()
	if link := v.permalink("Open in its channel"); link != "" {
		text += " · " + link
	}
	if note != "" {
		text += " · " + mrkdwn(note, roomReason)
	}
	return text
}
