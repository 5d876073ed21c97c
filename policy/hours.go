package policy

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones must not depend on what is installed

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// Hours say when the people of a group are at work.
type Hours struct {
	// Timezone is an IANA name, such as Europe/Berlin.
	Timezone string
	// Days of the week, from Monday on. Default Monday to Friday.
	Days []time.Weekday
	// From and To are what the clock on the wall shows, since midnight; To is the later
	// one, at most 24 h.
	From, To time.Duration
	// Holidays are dates, such as 2026-12-25, in order.
	Holidays []string

	zone *time.Location
	// closed are the holidays, as midnight in UTC.
	closed []time.Time
}

const (
	maxHolidays = 500
	// maxSpans bounds the spans of work of one stage in the longest life of a ticket. Up to
	// so many groups cannot have more: a month has 31 days, and there is one span a day.
	maxSpans  = 128
	fewGroups = 4
)

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (d *decoder) hours(g *groupDraft) field {
	return func(n ast.Node) {
		h := &Hours{Days: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}}
		var zone, to word
		var days, holidays []word
		before := len(d.problems)
		d.object(n, "hours", fields{
			"timezone": d.word(&zone),
			"days":     d.capped("days", len(weekdays), d.weekday(&days)),
			"from":     d.clock(&h.From, new(word), 0),
			"to":       d.clock(&h.To, &to, day),
			"holidays": d.capped("holidays", maxHolidays, d.date(&holidays)),
		}, "timezone", "from", "to")
		d.timezone(h, zone)
		if len(days) > 0 {
			h.Days = nil
		}
		for i, name := range weekdays {
			if slices.Contains(texts(days), name) {
				h.Days = append(h.Days, time.Weekday((i+1)%len(weekdays)))
			}
		}
		h.Holidays = sorted(texts(holidays))
		for _, text := range h.Holidays {
			date, _ := time.Parse(time.DateOnly, text) // it has just been parsed
			h.closed = append(h.closed, date)
		}
		if len(d.problems) > before {
			return
		}
		if h.To <= h.From {
			d.problem(to.at, `split what goes past midnight: a group until "24:00" and one from "00:00"`, "to must be later than from")
			return
		}
		g.hours = h
	}
}

// weekday decodes one day of the week.
func (d *decoder) weekday(dst *[]word) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		switch {
		case w.text == "":
		case !slices.Contains(weekdays, w.text):
			d.problem(w.at, didYouMean(w.text, weekdays), "days are %s", strings.Join(weekdays, ", "))
		case slices.Contains(texts(*dst), w.text):
			d.problem(w.at, "", "days has %q twice", w.text)
		default:
			*dst = append(*dst, w)
		}
	}
}

// date decodes one date.
func (d *decoder) date(dst *[]word) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		_, err := time.Parse(time.DateOnly, w.text)
		switch {
		case w.text == "":
		case err != nil:
			d.problem(w.at, "write 2026-12-25", "this is not a date")
		case slices.Contains(texts(*dst), w.text):
			d.problem(w.at, "", "holidays has %q twice", w.text)
		default:
			*dst = append(*dst, w)
		}
	}
}

// clock decodes a time of day. Only the end of a day may be 24:00; late is that, or 0.
func (d *decoder) clock(dst *time.Duration, w *word, late time.Duration) field {
	return func(n ast.Node) {
		d.word(w)(n)
		if w.text == "" {
			return
		}
		t, err := time.Parse("15:04", w.text)
		switch {
		case late > 0 && w.text == "24:00":
			*dst = late
		case err != nil || len(w.text) != len("09:00"):
			d.problem(w.at, `write "09:00"`, "%s is not a time of day", d.label)
		default:
			*dst = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
		}
	}
}

// timezone loads a zone by its name. What the machine calls local, and its variants with
// leap seconds, would make hours differ from machine to machine.
func (d *decoder) timezone(h *Hours, w word) {
	if w.text == "" {
		return
	}
	h.Timezone = w.text
	var err error
	h.zone, err = time.LoadLocation(w.text)
	first, _, _ := strings.Cut(w.text, "/")
	if err != nil || slices.Contains([]string{"Local", "localtime", "posixrules", "Factory", "posix", "right"}, first) {
		d.problem(w.at, "write an IANA name, such as Europe/Berlin or UTC", "unknown time zone %q", shorten(w.text))
	}
}

// checkHours bounds the spans of work that go into the plan of a stage.
func (d *decoder) checkHours(s stageDraft, known map[string]*Hours) {
	some := atWork(sets(s.need), known)
	if len(some) <= fewGroups {
		return
	}
	if n := len(spans(some, anyMonday, anyMonday.Add(maxExpires))); n > maxSpans {
		d.problem(s.at, "let their hours meet", "the hours of the groups asked here make %d spans of work in 30 days, at most %d are allowed", n, maxSpans)
	}
}

// groupHours are the hours of the groups that have some.
func (d *decoder) groupHours() map[string]*Hours {
	out := make(map[string]*Hours)
	for _, g := range d.draft.groups {
		if g.hours != nil {
			out[g.name.text] = g.hours
		}
	}
	return out
}

var anyMonday = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// hoursOf is when somebody of a stage is at work between two moments: the hours of all
// groups in its approver sets together. Nil, always, when a person is named there or a
// group without hours.
func (c *Config) hoursOf(stage approvals.Stage, from, to time.Time) []approvals.Interval {
	if len(c.hours) == 0 {
		return nil
	}
	return spans(atWork(stage.Need, c.hours), from, to)
}

// atWork lists the hours of everybody asked; none when one of them is always there.
func atWork(need []approvals.ApproverSet, known map[string]*Hours) []*Hours {
	var out []*Hours
	for _, set := range need {
		for _, name := range set.From {
			h := known[name]
			if h == nil {
				return nil
			}
			if !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out
}

// early is how long before the first moment spans of work are still of interest: the clock
// of the database, by which tickets wait, may be behind.
const early = time.Hour

// never is the hours of those who are not at work at all: none would mean always.
var never = approvals.Interval{From: time.Unix(0, 0).UTC(), To: time.Unix(1, 0).UTC()}

// spans puts hours together, in order and apart. Nil for no hours at all.
func spans(some []*Hours, from, to time.Time) []approvals.Interval {
	var all []approvals.Interval
	for _, h := range some {
		all = h.appendSpans(all, from.Add(-early), to)
	}
	if len(all) == 0 && len(some) > 0 {
		return []approvals.Interval{never}
	}
	slices.SortFunc(all, func(a, b approvals.Interval) int { return a.From.Compare(b.From) })
	var out []approvals.Interval
	for _, next := range all {
		if last := len(out) - 1; last >= 0 && !next.From.After(out[last].To) {
			if next.To.After(out[last].To) {
				out[last].To = next.To
			}
			continue
		}
		out = append(out, next)
	}
	return out
}

// appendSpans adds the span of each day that has a part between two moments.
func (h *Hours) appendSpans(out []approvals.Interval, from, to time.Time) []approvals.Interval {
	y, m, first := from.In(h.zone).Date()
	// Most of the time clocks are left alone, and one look at the zone is enough.
	steady, same := unchanged(h.zone, from.Add(-4*day), to.Add(4*day))
	when := func(shown time.Time, last bool) time.Time {
		if same {
			return shown.Add(-steady)
		}
		return wall(shown, h.zone, last)
	}
	for date := time.Date(y, m, first-1, 0, 0, 0, 0, time.UTC); date.Before(to.Add(2 * day)); date = date.Add(day) {
		if !h.workday(date) {
			continue
		}
		span := approvals.Interval{From: when(date.Add(h.From), false), To: when(date.Add(h.To), true)}
		if span.From.Before(span.To) && span.To.After(from) && span.From.Before(to) {
			out = append(out, span)
		}
	}
	return out
}

func (h *Hours) workday(date time.Time) bool {
	_, closed := slices.BinarySearchFunc(h.closed, date, time.Time.Compare)
	return !closed && slices.Contains(h.Days, date.Weekday())
}

// unchanged returns the offset of a zone, if it is the same between two moments.
func unchanged(zone *time.Location, from, to time.Time) (time.Duration, bool) {
	_, end := from.In(zone).ZoneBounds()
	return offset(from, zone), end.IsZero() || end.After(to)
}

// wall is when the clock on the wall in a zone shows what shown does in UTC: the first of
// two such moments, or the last, when the clock is set back, and the moment of the jump
// when it jumps over that time.
func wall(shown time.Time, zone *time.Location, last bool) time.Time {
	// A day is longer than any offset, so these are in use before and after.
	before, after := offset(shown.Add(-day), zone), offset(shown.Add(day), zone)
	a, b := shown.Add(-before), shown.Add(-after)
	one, other := offset(a, zone) == before, offset(b, zone) == after
	switch {
	case one && (!other || !last):
		return a
	case other:
		return b
	}
	jump, _ := a.In(zone).ZoneBounds()
	return jump.UTC()
}

func offset(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}
