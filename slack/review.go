package slack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// Bounds of a review. A page is what a person can read before they turn it.
const (
	// MaxReviewPages is how many pages a review has at most.
	MaxReviewPages = 400
	// pageBytes is how much of the request a page shows, chunkUnits how much of that is in
	// one block.
	pageBytes  = 9000
	chunkUnits = 2400
)

// ReviewOffer says what can be done from a review besides reading it.
type ReviewOffer int

const (
	// ReviewOnly offers nothing.
	ReviewOnly ReviewOffer = iota
	// ReviewApprove offers to approve, on the last page.
	ReviewApprove
)

// Review is the full view of a request: all that its card shows of it and all that the card
// has no room for, on pages. What the rule hides is hidden here too. It is the same for the
// same ticket, confirmation and fingerprint, whoever looks at it and whenever.
type Review struct {
	view     View
	pages    []reviewPage
	total    int
	account  []string
	obstacle string
}

// reviewPage is what stands on one page, and which bytes of the whole that is.
type reviewPage struct {
	parts    []passage
	from, to int
}

// NewReview lays out the whole request of a view.
func NewReview(v View) Review {
	e := v.reveal(MaxReviewPages * pageBytes)
	r := Review{view: v, account: e.account()}
	passages := append([]passage{{text: e.out.String()}}, v.passages()...)
	cut := e.full
	for _, p := range passages {
		r.total += len(p.text)
	}
	r.pages = paginate(passages)
	if len(r.pages) > MaxReviewPages {
		r.pages, cut = r.pages[:MaxReviewPages], true
	}
	switch {
	case v.defect(e) != "":
		r.obstacle = v.defect(e)
	case cut:
		r.obstacle = "it is longer than the " + grouped(MaxReviewPages) + " pages that can be shown here"
	case v.confirm() == approvals.ConfirmCode && v.Fingerprint == "":
		r.obstacle = "there is no fingerprint to compare it by"
	}
	return r
}

// Pages is how many there are: 1 to [MaxReviewPages].
func (r Review) Pages() int { return len(r.pages) }

// Obstacle says why the request cannot be approved from here at all, as the rest of "cannot
// be approved from here: …"; "" when it can.
func (r Review) Obstacle() string { return r.obstacle }

// JSON returns the blocks of all pages as Slack is given them, one page after the other,
// without what depends on who looks at them: the buttons, the inputs, and what approving
// would do as things stand.
func (r Review) JSON() []byte {
	pages := make([][]slackgo.Block, 0, len(r.pages))
	for i := range r.pages {
		pages = append(pages, r.content(i))
	}
	return encode(map[string]any{"pages": pages})
}

// Hash is the SHA-256 of [Review.JSON], in hex.
func (r Review) Hash() string { return hashOf(r.JSON()) }

// Modal renders a page, counted from 1; what is beyond the last is the last. Its buttons
// carry handle, that of the review ([ValidReview]); without one there is neither a button
// nor an offer. Offered is approval on the last page only, and never where there is an
// [Review.Obstacle].
func (r Review) Modal(handle string, page int, offer ReviewOffer) slackgo.ModalViewRequest {
	at := min(max(page, 1), len(r.pages)) - 1
	if r.obstacle != "" || !ValidReview(handle) || !r.view.Ticket.State.Open() {
		offer = ReviewOnly
	}
	last := at == len(r.pages)-1
	m := slackgo.ModalViewRequest{
		Type: slackgo.VTModal, CallbackID: CallbackView, Title: plainText("Full request"), Close: plainText("Close"),
		Blocks: slackgo.Blocks{BlockSet: append(r.content(at), section(blockOutcome, r.says(offer, last)))},
	}
	if ValidReview(handle) {
		m.PrivateMetadata = pointer{handle}.encode()
		if turn := r.turning(handle, at); turn != nil {
			m.Blocks.BlockSet = append(m.Blocks.BlockSet, turn)
		}
	}
	if offer == ReviewApprove && last {
		m.CallbackID, m.Submit = CallbackApprove, plainText("Approve")
		m.Blocks.BlockSet = append(m.Blocks.BlockSet, r.inputs()...)
	}
	return m
}

// content is what a page shows of the request.
func (r Review) content(at int) []slackgo.Block {
	p := r.pages[at]
	where := fmt.Sprintf("Page %s of %s · bytes %s–%s of %s · fingerprint %s", grouped(at+1), grouped(len(r.pages)),
		grouped(p.from+1), grouped(p.to), grouped(r.total), r.fingerprint())
	blocks := []slackgo.Block{contextLine("page", where)}
	if at == 0 {
		blocks = append(blocks, section(blockWho, "Requested by *"+mrkdwn(r.view.Ticket.Caller, roomName)+"* · rule "+
			code(r.view.Ticket.Plan.Rule, roomName)+" · "+r.view.ticketLink()))
	}
	for i, part := range p.parts {
		for j, chunk := range part.chunks() {
			blocks = append(blocks, rich(fmt.Sprintf("p:%d:%d", i, j), chunk...))
		}
	}
	return append(blocks, contextLine(blockHash, strings.Join(r.account, " · ")))
}

// fingerprint leaves out the digits that have to be typed, which are to be read elsewhere:
// somebody who looks at an imitated card has other ones.
func (r Review) fingerprint() string {
	shown := r.view.shownFingerprint()
	if n := len(shown); r.view.confirm() == approvals.ConfirmCode && n >= 4 {
		return code(strings.TrimSpace(shown[:n-4]), 64) + " and the four digits that its card shows after these"
	}
	return code(shown, 64)
}

// says is what can be done from a page, in plain words.
func (r Review) says(offer ReviewOffer, last bool) string {
	v := r.view
	switch {
	case !v.Ticket.State.Open():
		return "It is no longer open for decisions."
	case r.obstacle != "":
		return "*This request cannot be approved from here:* " + r.obstacle + ". It can be denied on its card" + v.orPage() + "."
	case offer == ReviewOnly:
		return "This is the whole request, on " + plural(len(r.pages), "page", "pages") + ". Nothing has been sent."
	case !last:
		return "Nothing has been sent. It can be approved on the last page, once all have been seen."
	default:
		return v.stalled() + "Nothing has been sent. " + v.consequence() + v.wanted()
	}
}

func (r Review) turning(handle string, at int) slackgo.Block {
	var buttons []slackgo.BlockElement
	if at > 0 {
		buttons = append(buttons, slackgo.NewButtonBlockElement(ActionPrev, handle, plainText("← Previous page")))
	}
	if at < len(r.pages)-1 {
		buttons = append(buttons, slackgo.NewButtonBlockElement(ActionNext, handle, plainText("Next page →")).WithStyle(slackgo.StylePrimary))
	}
	if len(buttons) == 0 {
		return nil
	}
	return slackgo.NewActionBlock(blockActions, buttons...)
}

// inputs are those of an approval. What is typed is lost when the page is turned, so all
// are on the last.
func (r Review) inputs() []slackgo.Block {
	v := r.view
	out := []slackgo.Block{written(CommentBlock, "Comment (kept in the audit log)", MaxReason,
		CommentRequired(v.Ticket, v.Stage, approvals.Approve))}
	if v.confirm() != approvals.ConfirmCode {
		return out
	}
	digits := slackgo.NewPlainTextInputBlockElement(plainText("0000"), InputAction).WithMinLength(4).WithMaxLength(4)
	return append(out, slackgo.NewInputBlock(CodeBlock, plainText("The last four digits of the fingerprint, as its card or its page shows them"), nil, digits))
}

// confirm is how an approval is asked back for; what is not known counts as the strictest.
func (v View) confirm() approvals.Confirm {
	if !slices.Contains(approvals.Confirms(), v.Confirm) {
		return approvals.ConfirmCode
	}
	return v.Confirm
}

// NeedsReview reports whether an approval of a view has to be given from the full view: its
// confirmation wants that, a comment is required, or its card cannot show all of the
// request.
func NeedsReview(v View) bool {
	return v.wantsReview() || !ShowsAll(v)
}

// wantsReview is [NeedsReview] as far as rules go.
func (v View) wantsReview() bool {
	c := v.confirm()
	return c == approvals.ConfirmModal || c == approvals.ConfirmCode || CommentRequired(v.Ticket, v.Stage, approvals.Approve)
}

// ShowsAll reports whether the card of a view is open for decisions and shows all of the
// request but what its rule hides: whether somebody who has seen it has seen the request.
func ShowsAll(v View) bool {
	if !v.asking() {
		return false
	}
	shown, _ := v.face()
	return shown.complete
}

// passages are what the requester wrote besides the call, whole.
func (v View) passages() (out []passage) {
	for _, w := range v.writings() {
		s := screen{room: MaxReviewPages * pageBytes}
		s.write(w.text, w.keep)
		out = append(out, passage{heading: w.heading, text: s.out.String(), quoted: w.quoted})
	}
	return out
}

// passage is a text of others below a heading of ours.
type passage struct {
	heading, text string
	quoted        bool
	// midline says that it goes on with the line that the page before it ended in.
	midline bool
}

// paginate puts passages on pages of at most pageBytes bytes. The texts of all pages, one
// after the other, are those of the passages.
func paginate(passages []passage) []reviewPage {
	var out []reviewPage
	page, at := reviewPage{}, 0
	for _, p := range passages {
		rest, begun := p, false
		for rest.text != "" {
			room := pageBytes - (at - page.from)
			n := cutAt(rest.text, room, room)
			if n == 0 && at > page.from { // not even a character fits
				out = append(out, page)
				page = reviewPage{from: at, to: at}
				continue
			}
			n = max(n, 1) // an empty page has room for any character, so it never is 0
			piece := rest
			piece.text, rest.text = rest.text[:n], rest.text[n:]
			at += n
			page.parts, page.to = append(page.parts, piece), at
			rest.midline = !strings.HasSuffix(piece.text, "\n")
			if !begun && p.heading != "" {
				rest.heading, begun = strings.TrimSuffix(p.heading, ": ")+", continued: ", true
			}
			if rest.text != "" {
				out = append(out, page)
				page = reviewPage{from: at, to: at}
			}
		}
	}
	return append(out, page)
}

// chunks are the rich text of a passage, in pieces for one block each.
func (p passage) chunks() (out [][]slackgo.RichTextElement) {
	heading, midline := p.heading, p.midline
	for rest := p.text; rest != ""; {
		n := cmp.Or(cutAt(rest, len(rest), chunkUnits), len(rest))
		var chunk []slackgo.RichTextElement
		if heading != "" {
			chunk = append(chunk, label(heading))
		}
		if midline {
			chunk = append(chunk, label("(the same line goes on)"))
		}
		in := preformatted
		if p.quoted {
			in = quote
		}
		out = append(out, append(chunk, in(rest[:n])))
		heading, midline = "", !strings.HasSuffix(rest[:n], "\n")
		rest = rest[n:]
	}
	return out
}
