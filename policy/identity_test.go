package policy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

const vendor = "https://id.vendor.example/"

// known is a configuration with people of every kind of identity.
func known(t *testing.T) *policy.Config {
	t.Helper()
	return parse(t, map[string]string{
		"logins": twoLogins, // the second one vouches for e-mail addresses
		"people": "people:\n" + morePeople + `  - {name: dee, slack: [U0DEE, W0DEE], email: [dee@example.com, dee@old.example.com]}
  - {name: eli, login: [{issuer: "https://a.example.com", subject: Sub-1}, {issuer: "` + vendor + `", subject: eli@example.com}], email: eli@example.com}
  - {name: fay, key_sha256: ` + otherHash + `}
  - {name: gus, email: gus@example.com, login: {issuer: "https://a.example.com", subject: Sub-2}}
`,
	})
}

func TestPeopleHaveAllTheirAccounts(t *testing.T) {
	t.Parallel()
	c := known(t)
	dir := c.Directory()
	require.Equal(t, approvals.Person{
		Name: "dee", Slack: "U0DEE", Email: "dee@example.com", Accounts: []string{"W0DEE", "dee@old.example.com"},
	}, dir.People["dee"])
	require.Equal(t, approvals.Person{Name: "eli", Email: "eli@example.com", Accounts: []string{"Sub-1"}}, dir.People["eli"],
		"a subject that is the person's address is known already")
	require.Equal(t, approvals.Person{Name: "fay"}, dir.People["fay"])
	for _, p := range c.People {
		require.Equal(t, p, dir.People[p.Name])
	}
	for _, id := range []string{"U0DEE", "W0DEE"} {
		p, ok := dir.BySlack(id)
		require.True(t, ok)
		require.Equal(t, "dee", p.Name)
	}
	bot, _ := c.Caller("bot")
	for _, who := range []string{"dee", "W0DEE", "DEE@old.example.com"} {
		call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}
		tr, err := approvals.Submit(approvals.Submission{ID: "tkt_1", Caller: "bot", OnBehalfOf: who, Call: call}, c.Plan(bot, who, call, noon), dir, noon)
		require.NoError(t, err)
		require.Contains(t, tr.Ticket.Plan.Excluded, "dee", "no account of theirs is a way round")
	}
}

func TestPeopleAreFoundByTheirLogins(t *testing.T) {
	t.Parallel()
	c := known(t)
	for _, tt := range []struct{ issuer, subject, email, want, why string }{
		{"https://a.example.com", "Sub-1", "", "eli", "issuer and subject"},
		{"https://a.example.com", "sub-1", "", "", "subjects are compared exactly"},
		{"https://a.example.com/", "Sub-1", "", "", "and so are issuers"},
		{vendor, "Sub-1", "", "", "a subject is one of its issuer only"},
		{vendor, "eli@example.com", "", "eli", "a subject may look like an address"},
		{vendor, "x", "dee@example.com", "dee", "this issuer's addresses count"},
		{vendor, "x", "DEE@Old.example.com", "dee", "all of them, in any case"},
		{vendor, "x", "", "", "no address is nobody's"},
		{vendor, "x", "nobody@example.com", "", "nor is a strange one"},
		{vendor, "x", "eli@example.com", "", "whose subject is known is found by it alone: addresses are given to others"},
		{vendor, "x", "gus@example.com", "gus", "but only where it is known"},
		{"https://a.example.com", "x", "dee@example.com", "", "this issuer's addresses do not count"},
		{"https://evil.example.com", "x", "dee@example.com", "", "nor do those of a strange one"},
		{"https://a.example.com", "Sub-1", "dee@example.com", "eli", "the subject comes first"},
		{"", "", "", "", "nothing at all"},
	} {
		got, ok := c.PersonByLogin(tt.issuer, tt.subject, tt.email)
		require.Equal(t, tt.want, got.Name, tt.why)
		require.Equal(t, tt.want != "", ok, tt.why)
	}
	require.Equal(t, []policy.Login{
		{Issuer: "https://a.example.com", Audience: "gate"}, {Issuer: vendor, Audience: "gate", Email: true},
	}, c.Logins())
	require.Empty(t, parse(t, nil).Logins())
}

func TestAProviderOnThisMachineNeedsNoHTTPS(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"logins": "logins: [{issuer: \"http://127.0.0.1:5556/dex\", audience: gate}]\n"})
	require.Equal(t, "http://127.0.0.1:5556/dex", c.Logins()[0].Issuer)
}

func TestAPersonalKeyIsNoCallersAndACallersIsNobodys(t *testing.T) {
	t.Parallel()
	personal, personalHash, err := policy.NewPersonKey()
	require.NoError(t, err)
	require.Regexp(t, `^csp_[a-z2-7]{8}_[A-Za-z0-9_-]{43}$`, personal)
	sum := sha256.Sum256([]byte(personal))
	require.Equal(t, hex.EncodeToString(sum[:]), personalHash)
	callers, callersHash, err := policy.NewKey()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(callers, "csk_"))

	c := keyed(t, callersHash, personalHash)
	p, ok := c.PersonByKey(personal, noon)
	require.True(t, ok)
	require.Equal(t, "dee", p.Name)
	caller, _, ok := c.CallerByKey(callers, noon)
	require.True(t, ok)
	require.Equal(t, "bot", caller.Name)
	for _, key := range []string{callers, "", "csp_", personal[:len(personal)-1], strings.ToUpper(personal), personal + strings.Repeat("x", 300)} {
		_, ok := c.PersonByKey(key, noon)
		require.False(t, ok, key)
	}
	_, _, ok = c.CallerByKey(personal, noon)
	require.False(t, ok)

	c = keyed(t, personalHash, callersHash) // each hash in the other's place
	_, ok = c.PersonByKey(callers, noon)
	require.False(t, ok, "a caller's key decides nothing, even where its hash stands by mistake")
	_, _, ok = c.CallerByKey(personal, noon)
	require.False(t, ok, "nor does a person's submit")
}

func keyed(t *testing.T, callers, persons string) *policy.Config {
	t.Helper()
	return parse(t, map[string]string{
		"callers": "callers:\n  - {name: bot, key_sha256: " + callers + ", upstreams: [billing]}\n",
		"people":  people("{name: dee, key_sha256: " + persons + "}"),
	})
}

func TestOperatorsAreThePeopleAndMembersNamed(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"groups":    "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - {name: oncall, members: [chen]}\n",
		"operators": "operators: [oncall, ana]\n",
	})
	for person, want := range map[string]bool{"ana": true, "bo": false, "chen": true, "oncall": false, "": false, "nobody": false} {
		require.Equal(t, want, c.Operator(person), person)
	}
	require.Equal(t, []string{"oncall", "ana"}, c.Operators)
	require.False(t, parse(t, nil).Operator("ana"), "nobody is by default")
}

func TestAbsencesAreInTheDirectory(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"people": "people:\n" + `  - {name: ana, slack: U0ANA, away: {until: 2026-12-24}}
  - {name: bo, slack: U0BO, away: {until: "2026-12-24T09:00:00+01:00", delegate: chen}}
  - {name: chen, slack: U0CHEN}
`})
	require.Equal(t, map[string]approvals.Absence{
		"ana": {Until: time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)}, // a date is its beginning
		"bo":  {Until: time.Date(2026, 12, 24, 8, 0, 0, 0, time.UTC), Delegate: "chen"},
	}, c.Directory().Away)
	require.Nil(t, parse(t, nil).Directory().Away)
}

func TestDelegatesMayBeAwayThemselvesUpToTen(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"people": people(strings.Replace(chain(10), "➤", "", 1)), "rules": stage("need: [{from: [p0], approvals: 1}]")})
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}
	tr, err := approvals.Submit(approvals.Submission{ID: "tkt_1", Caller: "bot", Call: call}, c.Plan(bot, "", call, noon), c.Directory(), noon)
	require.NoError(t, err)
	require.Equal(t, []string{"p10"}, tr.Ticket.WaitingFor(c.Directory().At(noon)), "the domain goes as far as the policy lets it")
}

// Whether a file loads must not depend on the day it is read: replicas would disagree, and
// a restart at Christmas fail. Who is away is judged when a call is submitted.
func TestAbsencesAreJudgedAtSubmitAndNotAtLoad(t *testing.T) {
	t.Parallel()
	away := func(until string) map[string]string {
		return map[string]string{
			"people": "people:\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO, away: {until: " + until + "}}\n  - {name: chen, slack: U0CHEN}\n",
			"rules":  stage("need: [{from: [bo], approvals: 1}]"),
		}
	}
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/a"}
	for until, want := range map[string]bool{"9999-12-31": false, "2026-11-25": false, "2026-11-24": true, "2001-01-01": true} {
		c := parse(t, away(until))
		bot, _ := c.Caller("bot")
		_, err := approvals.Submit(approvals.Submission{ID: "tkt_1", Caller: "bot", Call: call}, c.Plan(bot, "", call, noon), c.Directory(), noon)
		if want {
			require.NoError(t, err, until)
			continue
		}
		var refused *approvals.Error
		require.ErrorAs(t, err, &refused, until)
		require.Equal(t, approvals.CodeUnsatisfiable, refused.Code)
	}
}
