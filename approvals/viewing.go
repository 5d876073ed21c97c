package approvals

import (
	"slices"
	"time"
)

// MaxViewers is how many people are recorded as having been shown the whole call.
const MaxViewers = 200

// Viewing says who was shown the whole call, and what they were shown.
type Viewing struct {
	Person string `json:"person"`
	// Stage is the one the ticket was in.
	Stage int `json:"stage"`
	// Digest is that of the request, Rendered the hex SHA-256 of all pages together.
	Digest   string `json:"digest"`
	Rendered string `json:"rendered"`
	// Channel is the Slack conversation it was asked for in, "" for none.
	Channel string `json:"channel,omitempty"`
	Pages   int    `json:"pages"`
}

// View records that a person who may decide on the call, has decided on it or may answer for
// it was shown all of it. It is recorded once a person; after that, and once [MaxViewers]
// are, it changes nothing.
//
// Errors: CodeAlreadyFinal, CodeDigestMismatch, CodeNotApprover and CodeAway, which are
// recorded, and CodeInvalid.
func (t Ticket) View(actor Actor, v Viewing, dir Directory, now time.Time) (Transition, error) {
	for _, f := range [][2]string{{"the person", v.Person}, {"the rendering", v.Rendered}, {"the channel", v.Channel}} {
		if err := checkText(f[0], f[1], MaxName); err != nil {
			return Transition{}, err
		}
	}
	if why := t.mayView(v, dir.At(now)); why != nil {
		return t.refused(actor, "view", why, now)
	}
	if slices.Contains(t.Viewers, v.Person) || len(t.Viewers) >= MaxViewers {
		return Transition{}, nil
	}
	c := t.change(actor, now)
	v.Stage, v.Pages = t.Stage, max(v.Pages, 1)
	c.record(EventViewed, t.State, Data{Viewing: &v})
	return c.done(), nil
}

// mayView says why a person is not shown the whole call, nil when they are.
func (t Ticket) mayView(v Viewing, dir Directory) *Error {
	switch {
	case t.State.Final():
		return refuse(CodeAlreadyFinal, "this request is already closed: %s", t.State)
	case v.Digest != t.Digest:
		return refuse(CodeDigestMismatch, "what you were shown is not what this request holds")
	case dir.Inactive[v.Person] != "":
		return inactive(v.Person, dir)
	case !dir.counts(v.Person):
		return refuse(CodeNotApprover, "you are not known to Countersign")
	case t.MayAnswer(v.Person, dir), t.mayBypass(v.Person, t.Plan, dir), t.voted(v.Person):
		return nil
	case t.Stage >= len(t.Plan.Stages):
		return refuse(CodeNotApprover, "nobody is asked about this request")
	case len(t.seats(v.Person, dir)) == 0:
		return t.unseated(v.Person, dir)
	}
	return nil
}

// voted reports whether a person has decided on the ticket, in whatever stage.
func (t Ticket) voted(person string) bool {
	return slices.ContainsFunc(t.Decisions, func(d Decision) bool { return d.Person == person })
}

// MayAnswer reports whether a person may answer questions about the call: they count as its
// requester, and as themself.
func (t Ticket) MayAnswer(person string, dir Directory) bool {
	return dir.counts(person) && t.self(dir)[person]
}
