package slack

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/approvals"
)

// View is everything a message about a ticket is made from.
type View struct {
	// Ticket with its call as it was submitted: headers and body too. A ticket whose bytes
	// are not those of its digest is shown without an Approve button.
	Ticket approvals.Ticket
	// Tally is the progress of the stage Stage.
	Tally approvals.Tally
	// Directory resolves people to Slack ids. Who counts is judged by the ticket's roster and
	// at Now, so it is handed in as it is. Zero: names are shown and nobody is mentioned.
	Directory approvals.Directory
	// Now is when the message is rendered: who is away then, and whether the call has to wait
	// for its hour. Zero: nobody is away, and its hour is yet to come.
	Now time.Time
	// Answered are the questions that were answered, oldest first. The newest are shown as
	// far as there is room. Zero: only how many there were is said.
	Answered []approvals.Question
	// Stage is the index of the stage that this copy of the card was posted for.
	Stage int
	// Handle is what the buttons carry; see [ValidHandle]. Zero: no buttons.
	Handle string
	// PublicURL is the address of Countersign, such as "https://countersign.example.com";
	// a ticket's page is PublicURL + "/t/" + its id. Zero: no links.
	PublicURL string
	// BaseURL is the upstream's base URL, before Call.Path. Zero: its name is shown instead.
	BaseURL string
	// Fingerprint is what people compare, made under the key of the install; see
	// [approvals.Fingerprint]. Zero: there is none to show, and where it has to be typed nobody
	// can approve.
	Fingerprint string
	// Confirm is how an approval is asked back for, as it counts now. Zero: by a dialog.
	Confirm approvals.Confirm
	// Permalink leads to the card in Slack, from messages elsewhere. Zero: no link.
	Permalink string
	// Reader is the person whose direct message this copy of the card is. Zero: it is in a
	// channel, for everybody.
	Reader string
	// Mention overrides who is mentioned, and so notified, as those who may decide: Slack
	// ids of people (U…, W…) or user groups (S…), at most 20. Zero: the people of Directory
	// who may still decide.
	Mention []string

	// binding is what became of comparing the ticket's bytes with its digest, which is not
	// done twice; see [View.checked].
	binding verdictOnBinding
}

// Room, in units, for what others wrote. A request gets what the rest of its card leaves of
// roomCard, which keeps clear of the size at which Slack refuses a message.
const (
	roomCard          = 9400
	roomLine          = 2500
	roomJustification = 1500
	roomNotes         = 1600
	roomThread        = 4500
	roomCallback      = 800
	roomOnBehalf      = 320
	roomList          = 500
	roomName          = 60
	roomTitlePath     = 80
	roomReason        = 400
	roomConfirm       = 160
	roomItem          = 300
	roomPreview       = 2000
	roomListing       = 9000
)

// maxPeople is how many people one message mentions or names.
const maxPeople = 20

var (
	personPattern = regexp.MustCompile(`^[UW][A-Z0-9]{1,30}$`)
	groupPattern  = regexp.MustCompile(`^S[A-Z0-9]{1,30}$`)
)

// mention turns a Slack id into a mention; "" when it is no such id.
func mention(id string) string {
	switch {
	case personPattern.MatchString(id):
		return "<@" + id + ">"
	case groupPattern.MatchString(id):
		return "<!subteam^" + id + ">"
	default:
		return ""
	}
}

// person mentions somebody by name, or names them where they have no Slack id.
func (v View) person(name string) string {
	if m := mention(v.Directory.People[name].Slack); m != "" && !strings.HasPrefix(m, "<!") {
		return m
	}
	return "*" + mrkdwn(name, roomName) + "*"
}

// list joins names or mentions, with last before the last one, and counts those beyond
// maxPeople or what there is room for.
func list(items []string, last string) string {
	n, room := 0, roomList
	for n < min(len(items), maxPeople) && units(items[n]) < room {
		room -= units(items[n]) + 2
		n++
	}
	if n < len(items) {
		items = append(slices.Clone(items[:n]), grouped(len(items)-n)+" more")
	}
	if n := len(items); n > 1 && last != "" {
		return strings.Join(items[:n-1], ", ") + last + items[n-1]
	}
	return strings.Join(items, ", ")
}

// deciders mentions those who may still decide on the ticket.
func (v View) deciders() []string {
	var out []string
	if len(v.Mention) > 0 {
		for _, id := range v.Mention {
			if m := mention(id); m != "" {
				out = append(out, m)
			}
		}
		return out
	}
	return v.waiting(func(string) bool { return true })
}

// waiting mentions those of some people who may still decide: a user group where that is all
// of them who are in one that was asked as such, and the others one by one.
func (v View) waiting(wanted func(name string) bool) (out []string) {
	people := v.Ticket.WaitingFor(v.dir())
	named := make(map[string]bool)
	for _, group := range v.userGroups() {
		inside := v.dir().Members([]string{group})
		asked := slices.DeleteFunc(slices.Clone(people), func(name string) bool { return !inside[name] })
		if len(asked) == 0 || slices.ContainsFunc(asked, func(name string) bool { return !wanted(name) }) {
			continue
		}
		for _, name := range asked {
			named[name] = true
		}
		out = append(out, mention(v.Ticket.Plan.Live[group]))
	}
	for _, name := range people {
		if wanted(name) && !named[name] {
			out = append(out, v.person(name))
		}
	}
	return out
}

// userGroups are the names in the approver sets of the stage that stand for a user group of
// Slack, as long as the configuration of today says so too.
func (v View) userGroups() (out []string) {
	for _, set := range v.Tally.Sets {
		for _, name := range set.From {
			id := v.Ticket.Plan.Live[name]
			if groupPattern.MatchString(id) && v.Directory.Live[name] == id && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// dir is the directory as it counts for the ticket, now.
func (v View) dir() approvals.Directory { return v.Ticket.Directory(v.Directory.At(v.Now)) }

// stage returns the stage of this card, and false when the plan has no such stage.
func (v View) stage() (approvals.Stage, bool) {
	if v.Stage < 0 || v.Stage >= len(v.Ticket.Plan.Stages) {
		return approvals.Stage{}, false
	}
	return v.Ticket.Plan.Stages[v.Stage], true
}

// asking reports whether this card is one that people can decide on now.
func (v View) asking() bool {
	_, ok := v.stage()
	return ok && v.Ticket.State.Open() && v.Ticket.Stage == v.Stage
}

// link leads to the ticket's page.
func (v View) link(label string) string { return v.linkTo(v.Ticket.ID, label) }

// linkTo leads to the page of a ticket.
func (v View) linkTo(id, label string) string {
	label = mrkdwn(label, roomName)
	if v.PublicURL == "" || !approvals.ValidTicketID(id) || len(v.PublicURL) > 200 || strings.ContainsAny(v.PublicURL, "<>|& \n") {
		return label
	}
	return "<" + strings.TrimRight(v.PublicURL, "/") + "/t/" + id + "|" + label + ">"
}

// ticketLink is link with the ticket's id, shortened in the middle.
func (v View) ticketLink() string { return v.otherLink(v.Ticket.ID) }

// otherLink is ticketLink for a ticket other than this one.
func (v View) otherLink(id string) string {
	label := id
	if approvals.ValidTicketID(id) {
		label = id[:8] + "…" + id[len(id)-4:]
	}
	return v.linkTo(id, label)
}

// permalink leads to the card in Slack; "" when there is no address that can be a link.
func (v View) permalink(label string) string {
	u, err := url.Parse(v.Permalink)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || len(v.Permalink) > 500 || strings.ContainsAny(v.Permalink, "<>|& \n") {
		return ""
	}
	return "<" + v.Permalink + "|" + mrkdwn(label, roomName) + ">"
}

// date shows a moment in each reader's own time, and in UTC where that fails.
func date(t time.Time) string { return stamp(t, "{date_short_pretty} {time}", "2006-01-02 15:04 UTC") }

// clock is date without the day.
func clock(t time.Time) string { return stamp(t, "{time}", "15:04 UTC") }

func stamp(t time.Time, format, fallback string) string {
	if t.IsZero() {
		return "not known"
	}
	if y := t.UTC().Year(); y < 1970 || y > 9999 {
		return "the year " + strconv.Itoa(y)
	}
	return fmt.Sprintf("<!date^%d^%s|%s>", t.Unix(), format, t.UTC().Format(fallback))
}

// grouped shows a number with separators: 48,113.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}
