package slack

import (
	"fmt"
	"slices"
	"strings"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// Card renders the card of a ticket: the one renderer for every copy of it and every state.
// It is pure, and within the limits of Block Kit for any input; see [Lint]. Only a card
// that is open for decisions has buttons, and Approve only where all of the request is
// shown.
func Card(v View) Message {
	m := Message{Text: v.sentence()}
	if v.asking() {
		m.Blocks = v.askingBlocks()
		return m
	}
	m.Blocks = []slackgo.Block{
		header(v.headline()), section(blockOutcome, v.outcome()),
		rich(blockRequest, preformatted(v.line(roomLine))),
	}
	if notes := v.notes(); len(notes) > 0 {
		m.Blocks = append(m.Blocks, rich(blockNotes, notes...))
	}
	m.Blocks = append(m.Blocks, contextLine(blockHash, v.footer()))
	return m
}

// askingBlocks are those of a card that can be decided on.
func (v View) askingBlocks() []slackgo.Block {
	shown, notes := v.face()
	return v.layOut(shown, notes)
}

// face is what the card shows of the request, and what was said about it. The card is laid
// out twice: once with hardly any of the request, to see how much room all the rest leaves
// for it. Answers may come at any time, so that room is kept for them from the first
// question on: what the card shows of the request never depends on whether they have been
// read. A request that does not fit is shown in its beginning only: it is read in the full
// view.
func (v View) face() (exhibit, []slackgo.RichTextElement) {
	v = v.checked()
	notes, kept := v.notes(), 0
	if v.Ticket.Questions > 0 {
		kept = roomAnswers
		for _, e := range notes {
			kept -= sizeOf(e)
		}
	}
	rest := linter{ids: map[string]bool{}}
	rest.blocks(v.layOut(v.exhibit(1), notes))
	room := max(roomCard-rest.text-max(kept, 0), 1)
	shown := v.exhibit(room)
	if !shown.complete && shown.obstacle == "" {
		shown = v.exhibit(min(room, roomPreview))
	}
	if _, whole := v.words(); !whole {
		shown.complete = false
	}
	if !shown.complete && shown.obstacle == "" {
		shown.obstacle = NewReview(v).Obstacle()
	}
	return shown, notes
}

func (v View) layOut(shown exhibit, notes []slackgo.RichTextElement) []slackgo.Block {
	words, _ := v.words()
	blocks := []slackgo.Block{
		header(v.headline()), section(blockWho, v.who()),
		rich(blockRequest, append([]slackgo.RichTextElement{preformatted(shown.text)}, words...)...),
	}
	if len(notes) > 0 {
		blocks = append(blocks, rich(blockNotes, notes...))
	}
	blocks = append(blocks, v.facts(), section(blockOutcome, v.effect(shown)), contextLine(blockHash, v.account(shown)))
	if buttons := v.buttons(shown); buttons != nil {
		blocks = append(blocks, buttons)
	}
	return blocks
}

// Plain renders the card without anything that Slack might object to, for when it refuses
// the real one as invalid_blocks. It shows the request line only and so offers no Approve.
func Plain(v View) Message {
	m := Message{Text: v.sentence(), Blocks: []slackgo.Block{
		slackgo.NewSectionBlock(plainText(v.headline()), nil, nil, slackgo.SectionBlockOptionBlockID(blockOutcome)),
		rich(blockRequest, preformatted(v.line(roomLine))),
		contextLine(blockHash, v.footer()),
	}}
	if v.asking() && ValidHandle(v.Handle) {
		m.Blocks = append(m.Blocks, slackgo.NewActionBlock(blockActions, v.denyButton(), v.viewButton()))
	}
	return m
}

// titles say in a word or two how a ticket stands.
var titles = map[approvals.State]string{
	approvals.Pending: "Approval needed", approvals.NeedsInfo: "Question open", approvals.Approved: "Approved",
	approvals.Executing: "Executing", approvals.Succeeded: "Executed", approvals.Failed: "Failed",
	approvals.OutcomeUnknown: "Outcome unknown", approvals.Denied: "Denied", approvals.Expired: "Expired",
	approvals.Cancelled: "Cancelled",
}

func (v View) title() string {
	if v.Ticket.State.Open() && !v.asking() {
		if v.Ticket.Stage > v.Stage {
			return fmt.Sprintf("Stage %d complete", v.Stage+1)
		}
		return fmt.Sprintf("Stage %d is on hold", v.Stage+1)
	}
	title, ok := titles[v.Ticket.State]
	if !ok {
		return "Request"
	}
	if v.Ticket.State == approvals.Cancelled && v.Ticket.SupersededBy != "" {
		return "Superseded"
	}
	if _, broken := v.bypass(); broken {
		return title + " (glass broken)"
	}
	return title
}

func (v View) headline() string { return v.headlineOf(v.title()) }

// headlineOf is plain text: what is asked, as verb and target.
func (v View) headlineOf(title string) string {
	c := v.Ticket.Call
	text := title + ": " + shorten(c.Method, 10, asciiLine) + " · " + shorten(c.Upstream, 30, oneLine) + " "
	return text + shorten(c.Path, min(roomTitlePath, maxHeaderText-units(text)), asciiLine)
}

// sentence is all that a notification or a screen reader gives.
func (v View) sentence() string { return v.sentenceOf(v.title()) }

func (v View) sentenceOf(title string) string {
	c := v.Ticket.Call
	return fmt.Sprintf("%s: %s %s on %s, requested by %s", title, entities.Replace(shorten(c.Method, 10, asciiLine)),
		entities.Replace(shorten(c.Path, 200, asciiLine)), mrkdwn(c.Upstream, roomName), mrkdwn(v.Ticket.Caller, roomName))
}

func (v View) who() string {
	t := v.Ticket
	text := "Requested by *" + mrkdwn(t.Caller, roomName) + "*"
	if id := v.behalf(); id != "" {
		text += " for <@" + id + ">"
	}
	stage, _ := v.stage()
	text += " · rule " + code(t.Plan.Rule, roomName) + " · *" + v.place() + "*"
	text += " (" + mrkdwn(stage.Name, roomName) + ", " + v.quorum() + ")"
	if stage.Round > 0 {
		text += " · the policy became stricter: *asked again*"
	}
	if t.Supersedes != "" {
		text += " · takes the place of " + v.otherLink(t.Supersedes)
	}
	return text
}

func (v View) place() string {
	return fmt.Sprintf("stage %d of %d", v.Stage+1, len(v.Ticket.Plan.Stages))
}

// behalf is the Slack id of the person the caller says it acts for, if that is a person we
// know. Anything else the caller wrote is shown as its words.
func (v View) behalf() string {
	id := v.Directory.People[v.Ticket.OnBehalfOf].Slack
	if !personPattern.MatchString(id) {
		return ""
	}
	return id
}

// quorum says how many of how many people have to approve: those who may still decide, and
// those whose vote counts already.
func (v View) quorum() string {
	people := make(map[string]bool)
	for _, name := range v.Ticket.WaitingFor(v.dir()) {
		people[name] = true
	}
	for _, set := range v.Tally.Sets {
		for _, name := range set.By {
			people[name] = true
		}
	}
	for _, d := range v.Ticket.Decisions {
		if d.Stage == v.Stage && d.Verdict == approvals.Deny && !v.requester(d.Person) {
			people[d.Person] = true
		}
	}
	return fmt.Sprintf("%d of %s", v.Tally.Needed, plural(len(people), "person", "people"))
}

// writing is something that the requester wrote besides the call.
type writing struct {
	heading, text string
	// room is what it gets on a card.
	room   int
	keep   charset
	quoted bool
}

const onBehalf = "On behalf of (from the requester): "

// writings are those that there are.
func (v View) writings() []writing {
	t := v.Ticket
	all := []writing{{"Why (from the requester): ", t.Justification, roomJustification, lines, true}}
	all = append(all, writing{onBehalf, t.OnBehalfOf, roomOnBehalf, oneLine, true})
	if t.Callback != nil {
		all = append(all, writing{"The result is sent to: ", t.Callback.URL, roomCallback, asciiLine, false})
	}
	return slices.DeleteFunc(all, func(w writing) bool { return w.text == "" })
}

// words shows what the requester wrote besides the call. It is false when some of it does
// not fit.
func (v View) words() (out []slackgo.RichTextElement, whole bool) {
	whole = true
	for _, w := range v.writings() {
		if w.heading == onBehalf && v.behalf() != "" {
			continue // mentioned above
		}
		s := screen{room: w.room}
		if s.write(w.text, w.keep); s.full {
			whole = false
			s.out.WriteString("… (cut)")
		}
		in := preformatted
		if w.quoted {
			in = quote
		}
		out = append(out, label(w.heading), in(s.out.String()))
	}
	return out, whole
}

func (v View) facts() slackgo.Block {
	waiting := "nobody who may still decide"
	if who := v.deciders(); len(who) > 0 {
		waiting = list(who, "")
	}
	return fields(
		blockFacts,
		"*Ticket*\n"+v.ticketLink(),
		"*Expires*\n"+date(v.Ticket.ExpiresAt),
		"*Approvals*\n"+v.progress(),
		"*Waiting for*\n"+waiting,
	)
}

// progress is "1 of 2: @bo (15:16)", and each set on a line where there are several.
func (v View) progress() string {
	lines := []string{fmt.Sprintf("%d of %d", v.Tally.Have, v.Tally.Needed)}
	if by := v.votes(approvals.Approve); len(by) > 0 {
		lines[0] += ": " + list(by, "")
	}
	if v.Tally.Denials > 0 {
		lines = append(lines, fmt.Sprintf("denied by %d of %d: %s", v.Tally.Denials, v.Tally.DenialsNeeded, list(v.votes(approvals.Deny), "")))
	}
	if n := len(v.Tally.Sets); n > 1 && n <= 3 {
		for _, set := range v.Tally.Sets {
			lines = append(lines, fmt.Sprintf("%d of %d from %s", len(set.By), set.Approvals, mrkdwn(strings.Join(set.From, " or "), 40)))
		}
	}
	return strings.Join(lines, "\n")
}

// votes lists who said so in this stage, and when. A yes that has stopped counting, because
// its giver is not an approver any more, is marked.
func (v View) votes(verdict approvals.Verdict) (out []string) {
	for _, d := range v.Ticket.Decisions {
		if d.Verdict != verdict || d.Stage != v.Stage {
			continue
		}
		vote := v.voter(d) + " (" + clock(d.At)
		if verdict == approvals.Approve && !slices.ContainsFunc(v.Tally.Sets, func(s approvals.SetTally) bool { return slices.Contains(s.By, d.Person) }) {
			vote += ", no longer counts"
		}
		out = append(out, vote+")")
	}
	return out
}

// orPage says where else the request can be seen, when there is such a place.
func (v View) orPage() string {
	if v.PublicURL == "" {
		return ""
	}
	return ", or looked at on " + v.link("its page")
}

// effect says in plain words what approving does and where it is done, or why it is not
// offered.
func (v View) effect(shown exhibit) string {
	text := v.stalled() + v.standing() + "Nothing has been sent. "
	if shown.obstacle != "" {
		return text + "*This request cannot be approved from here:* " + shown.obstacle + ". It can be denied" + v.orPage() + "."
	}
	return text + v.consequence() + v.reviewing(shown) + v.wanted()
}

// consequence says what approving does.
func (v View) consequence() (text string) {
	switch missing := v.Tally.Needed - v.Tally.Have - 1; {
	case v.Stage+1 < len(v.Ticket.Plan.Stages):
		text = "Approving counts for this stage; it is sent once, when the last stage is complete" + v.hour() + "."
	case missing > 0:
		text = "Approving leaves " + plural(missing, "approval", "approvals") + " to be given; it is sent once, right after the last" + v.hour() + "."
	case v.hour() != "":
		text = "Approving leaves it to be sent once" + v.hour() + "."
	default:
		text = "Approving sends it once, now."
	}
	if v.Ticket.Plan.Idempotent {
		text += " If its answer is lost it may be sent again, which this upstream declares harmless."
	}
	return text
}

// reviewing says why it is approved from the full view, where it is.
func (v View) reviewing(shown exhibit) (text string) {
	switch {
	case !shown.complete:
		text = " *It is too long to be shown here in full:* Review… opens all of it, and it is approved from there."
		if v.Ticket.Plan.BreakGlass != nil {
			text += " Whoever breaks the glass has to have read it there too."
		}
	case v.wantsReview():
		text = " Review… opens the whole request, and it is approved from there."
	}
	if v.confirm() == approvals.ConfirmCode {
		text += " The last four digits of the fingerprint below have to be typed then."
	}
	return text
}

// standing says to whom a direct message goes how they have decided.
func (v View) standing() string {
	if v.Reader == "" {
		return ""
	}
	for _, d := range v.Ticket.Decisions {
		if d.Person != v.Reader || d.Stage != v.Stage {
			continue
		}
		switch d.Verdict {
		case approvals.Approve:
			return "*You have approved it* (" + clock(d.At) + "). "
		case approvals.Deny:
			return "*You have denied it* (" + clock(d.At) + "). "
		case approvals.GlassBroken:
		}
	}
	return "*You are asked.* "
}

// stalled says in words that the ticket cannot be completed as things stand.
func (v View) stalled() string {
	if v.Ticket.Stalled == nil {
		return ""
	}
	return ":warning: *Nobody who may still decide can complete this:* " + mrkdwn(v.Ticket.Stalled.Reason, roomReason) + ". "
}

// wanted says which decisions need a comment.
func (v View) wanted() string {
	yes, no := CommentRequired(v.Ticket, v.Stage, approvals.Approve), CommentRequired(v.Ticket, v.Stage, approvals.Deny)
	switch {
	case yes && no:
		return " Either decision needs a comment."
	case yes:
		return " Approving needs a comment."
	case no:
		return " Denying needs a reason."
	}
	return ""
}

// account is the line that tells requests apart and says how much of this one is shown.
func (v View) account(shown exhibit) string {
	return "Request fingerprint " + v.fingerprint() + " · " + strings.Join(shown.account, " · ")
}

// fingerprint is never made here: the key that it takes is not known here.
func (v View) fingerprint() string { return code(v.shownFingerprint(), 64) }

func (v View) shownFingerprint() string {
	if v.Fingerprint == "" {
		return "not known"
	}
	return v.Fingerprint
}

func (v View) footer() string {
	text := v.ticketLink() + " · fingerprint " + v.fingerprint()
	if v.Ticket.State.Final() {
		text += " · closed " + date(v.Ticket.FinishedAt)
	}
	return text
}
