package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

// hoursAt returns the hours of a stage that asks some names, for a call submitted then.
func hoursAt(t *testing.T, groups, from, submitted, expires string) []approvals.Interval {
	t.Helper()
	c := parse(t, map[string]string{
		"groups": "groups:\n" + groups,
		"rules":  rule("expires_in: " + expires + ", stages: [{name: one, need: [" + from + "]}]"),
	})
	now, err := time.Parse(time.RFC3339, submitted)
	require.NoError(t, err)
	bot, _ := c.Caller("bot")
	got := c.Plan(bot, "", approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}, now)
	require.Equal(t, approvals.ActionApprove, got.Action, got.Reason)
	return got.Stages[0].Hours
}

func hours(name, text string) string {
	return "  - {name: " + name + ", members: [bo, chen], hours: {" + text + "}}\n"
}

// times are pairs of begin and end, in UTC.
func times(t *testing.T, pairs ...string) []approvals.Interval {
	t.Helper()
	var out []approvals.Interval
	for pair := range slices.Chunk(pairs, 2) {
		from, err := time.Parse("2006-01-02 15:04", pair[0])
		require.NoError(t, err)
		to, err := time.Parse("2006-01-02 15:04", pair[len(pair)-1])
		require.NoError(t, err)
		out = append(out, approvals.Interval{From: from, To: to})
	}
	return out
}

const berlin = `timezone: Europe/Berlin, from: "09:00", to: "17:00"`

func TestHoursAreThoseOfTheWeekdaysInTheZoneOfTheGroup(t *testing.T) {
	t.Parallel()
	got := hoursAt(t, hours("day", berlin), "{from: [day], approvals: 1}", "2026-11-27T12:00:00Z", "4d")
	require.Equal(t, times(t, "2026-11-27 08:00", "2026-11-27 16:00", "2026-11-30 08:00", "2026-11-30 16:00", "2026-12-01 08:00", "2026-12-01 16:00"), got,
		"a Friday, the weekend, Monday and Tuesday, the last day of the ticket")
	for _, span := range got {
		require.Equal(t, time.UTC, span.From.Location())
	}
}

func TestHoursFollowTheClockOnTheWall(t *testing.T) {
	t.Parallel()
	everyDay := `days: [sun, sat, mon, tue, wed, thu, fri], timezone: `
	for _, tt := range []struct {
		promise, hours, submitted string
		want                      []string
	}{
		{
			"clocks are set back in Berlin on 2026-10-25", everyDay + `Europe/Berlin, from: "09:00", to: "17:00"`, "2026-10-24T20:00:00Z",
			[]string{"2026-10-25 08:00", "2026-10-25 16:00"},
		},
		{
			"clocks are set forward on 2026-03-29", everyDay + `Europe/Berlin, from: "09:00", to: "17:00"`, "2026-03-28T20:00:00Z",
			[]string{"2026-03-29 07:00", "2026-03-29 15:00"},
		},
		{
			"an hour that comes twice counts twice", everyDay + `Europe/Berlin, from: "02:30", to: "02:45"`, "2026-10-24T20:00:00Z",
			[]string{"2026-10-25 00:30", "2026-10-25 01:45"},
		},
		{
			"what begins in the hour that is left out begins with the next", everyDay + `Europe/Berlin, from: "02:30", to: "04:00"`, "2026-03-28T20:00:00Z",
			[]string{"2026-03-29 01:00", "2026-03-29 02:00"},
		},
		{
			"what is all in the hour that is left out is not at all", everyDay + `Europe/Berlin, from: "02:00", to: "03:00"`, "2026-03-28T20:00:00Z",
			[]string{"1970-01-01 00:00", "1970-01-01 00:00"},
		},
		{
			"a day of 25 hours", everyDay + `Europe/Berlin, from: "00:00", to: "24:00"`, "2026-10-24T23:30:00Z",
			[]string{"2026-10-24 22:00", "2026-10-25 23:00"},
		},
		{
			"the day is that of the zone", `days: [mon], timezone: Pacific/Kiritimati, from: "08:00", to: "12:00"`, "2026-11-22T12:00:00Z",
			[]string{"2026-11-22 18:00", "2026-11-22 22:00"},
		},
		{
			"and on the other side", `days: [sun], timezone: Pacific/Pago_Pago, from: "20:00", to: "24:00"`, "2026-11-23T06:00:00Z",
			[]string{"2026-11-23 07:00", "2026-11-23 11:00"},
		},
		{
			"half an hour of daylight saving", everyDay + `Australia/Lord_Howe, from: "09:00", to: "17:00"`, "2026-10-03T20:00:00Z",
			[]string{"2026-10-03 22:00", "2026-10-04 06:00"},
		},
	} {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			got := hoursAt(t, hours("day", tt.hours), "{from: [day], approvals: 1}", tt.submitted, "20h")
			want := times(t, tt.want...)
			if want[0].From.Year() == 1970 {
				require.Len(t, got, 1)
				require.True(t, got[0].To.Before(noon.AddDate(-10, 0, 0)), "no hours are hours long past, not all hours")
				return
			}
			require.Equal(t, want, got)
		})
	}
}

func TestHoursOfSeveralGroupsAreThoseOfAnyOfThem(t *testing.T) {
	t.Parallel()
	groups := hours("berlin", berlin) + hours("york", `timezone: America/New_York, from: "09:00", to: "17:00"`) +
		hours("late", `timezone: UTC, from: "22:00", to: "24:00"`) + hours("early", `timezone: UTC, from: "00:00", to: "06:00"`) +
		"  - {name: always, members: [bo, chen]}\n"
	for from, want := range map[string][]approvals.Interval{
		"{from: [berlin, york], approvals: 1}":                                    times(t, "2026-11-24 08:00", "2026-11-24 22:00"),
		"{from: [york], approvals: 1}, {from: [berlin], approvals: 1}":            times(t, "2026-11-24 08:00", "2026-11-24 22:00"),
		"{from: [berlin, late], approvals: 1}":                                    times(t, "2026-11-24 08:00", "2026-11-24 16:00", "2026-11-24 22:00", "2026-11-25 00:00"),
		"{from: [late, early], approvals: 1}":                                     times(t, "2026-11-24 00:00", "2026-11-24 06:00", "2026-11-24 22:00", "2026-11-25 06:00"),
		"{from: [berlin, always], approvals: 1}":                                  nil,
		"{from: [berlin, chen], approvals: 1}":                                    nil,
		"{from: [berlin], approvals: 1}, {from: [bo], approvals: 1}":              nil,
		"{from: [always], approvals: 1}":                                          nil,
		"{from: [early], approvals: 1}, {from: [late, berlin], approvals: 1}":     times(t, "2026-11-24 00:00", "2026-11-24 06:00", "2026-11-24 08:00", "2026-11-24 16:00", "2026-11-24 22:00", "2026-11-25 06:00"),
		"{from: [early], approvals: 1}, {from: [late, berlin, bo], approvals: 1}": nil,
	} {
		require.Equal(t, want, hoursAt(t, groups, from, "2026-11-24T05:00:00Z", "20h"), from)
	}
}

func TestHoursKnowHolidays(t *testing.T) {
	t.Parallel()
	groups := hours("day", berlin+`, holidays: ["2026-12-25", "2026-12-24", 2026-12-26]`)
	got := hoursAt(t, groups, "{from: [day], approvals: 1}", "2026-12-23T17:00:00Z", "5d")
	require.Equal(t, times(t, "2026-12-28 08:00", "2026-12-28 16:00"), got,
		"what is over does not count, nor do three holidays and a Sunday")
}

// The domain takes no hours for all hours, so nobody at work must not come out as none.
func TestAStageWhoseHoursAreAllOverWaitsInSilence(t *testing.T) {
	t.Parallel()
	got := hoursAt(t, hours("day", berlin), "{from: [day], approvals: 1}", "2026-11-28T00:00:00Z", "20h")
	require.Len(t, got, 1)
	require.True(t, got[0].From.Before(got[0].To))
	require.Equal(t, 1970, got[0].To.Year())

	c := parse(t, map[string]string{
		"groups": "groups:\n" + hours("day", berlin),
		"rules":  rule("expires_in: 20h, stages: [{name: one, need: [{from: [day], approvals: 1}], remind: {every: 1m}, escalate: [{after: 5m, to: [ana]}]}]"),
	})
	bot, _ := c.Caller("bot")
	saturday := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}
	plan := c.Plan(bot, "", call, saturday)
	opening, err := approvals.Accept(approvals.Submission{ID: "tkt_1", Caller: "bot", Call: call}, plan, c.Directory().At(saturday))
	require.NoError(t, err)
	tr := opening.Open(saturday)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.ExpireAt{TicketID: "tkt_1", At: saturday.Add(20 * time.Hour)}),
		"no reminder and no escalation before the end")
}

func TestTheHoursOfTheLongestTicketAreFew(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"groups": scattered(4),
		"rules":  rule("expires_in: 30d, stages: [{name: one, need: [{from: [g0, g1, g2, g3], approvals: 1}]}]"),
	})
	got := plan(t, c, "bot", "GET", "/a").Stages[0].Hours
	require.Len(t, got, 120)
	for i := 1; i < len(got); i++ {
		require.True(t, got[i-1].To.Before(got[i].From), "in order and apart")
	}
}

// Whatever the zone and the time of year, each local day from nine to five is there, at
// nine and until five of that place.
func TestHoursAreNineToFiveInEveryZone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham",
		"Africa/Casablanca", "America/Santiago", "Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC", "Asia/Tehran", "Antarctica/Troll",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(name)
			require.NoError(t, err)
			c := parse(t, map[string]string{
				"groups": "groups:\n" + hours("day", `timezone: `+name+`, from: "09:00", to: "17:00"`),
				"rules":  rule("expires_in: 30d, stages: [{name: one, need: [{from: [day], approvals: 1}]}]"),
			})
			checkNineToFive(t, c, zone)
		})
	}
}

func checkNineToFive(t *testing.T, c *policy.Config, zone *time.Location) {
	t.Helper()
	bot, _ := c.Caller("bot")
	for month := range 12 {
		now := time.Date(2026, time.Month(month+1), 15, 5, 0, 0, 0, time.UTC)
		got := c.Plan(bot, "", approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}, now).Stages[0].Hours
		days := 0
		for at := now; at.Before(now.AddDate(0, 0, 30)); at = at.Add(15 * time.Minute) {
			local := at.In(zone)
			working := local.Weekday() != time.Saturday && local.Weekday() != time.Sunday && local.Hour() >= 9 && local.Hour() < 17
			require.Equal(t, working, within(got, at), "%s is %s there", at, local)
			if working {
				days++
			}
		}
		require.Greater(t, days, 500)
	}
}

func within(hours []approvals.Interval, at time.Time) bool {
	for _, h := range hours {
		if !at.Before(h.From) && at.Before(h.To) {
			return true
		}
	}
	return false
}

func TestGroupsTellTheirHours(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"groups": "groups:\n  - {name: security, members: [bo]}\n" + hours("day", berlin+`, days: [sun, tue], holidays: [2026-12-26, 2026-12-25]`),
		"rules":  askBo["rules"],
	})
	require.Nil(t, c.Groups[0].Hours)
	h := c.Groups[1].Hours
	require.Equal(t, "Europe/Berlin", h.Timezone)
	require.Equal(t, []time.Weekday{time.Tuesday, time.Sunday}, h.Days)
	require.Equal(t, 9*time.Hour, h.From)
	require.Equal(t, 17*time.Hour, h.To)
	require.Equal(t, []string{"2026-12-25", "2026-12-26"}, h.Holidays)
}
