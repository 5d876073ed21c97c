package policy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// Facts are what Slack says of people and user groups. What is not in them is not known.
type Facts struct {
	// Users and Groups are by id.
	Users  map[string]SlackUser  `json:"users,omitempty"`
	Groups map[string]SlackGroup `json:"groups,omitempty"`
}

// SlackUser is what Slack says of one account.
type SlackUser struct {
	ID string `json:"id"`
	// TeamID is the workspace that the account belongs to, Teams all that it is in on
	// Enterprise Grid, EnterpriseID its organisation there.
	TeamID       string   `json:"team_id,omitempty"`
	EnterpriseID string   `json:"enterprise_id,omitempty"`
	Teams        []string `json:"teams,omitempty"`
	Name         string   `json:"name,omitempty"`
	// Email is "" when the app may not read it. EmailConfirmed says that Slack has seen its
	// owner read a mail that was sent there.
	Email          string `json:"email,omitempty"`
	EmailConfirmed bool   `json:"email_confirmed,omitempty"`
	// Deleted accounts are deactivated. Strangers are of another organisation and in a
	// shared channel only. Invited accounts have not joined yet.
	Deleted  bool      `json:"deleted,omitempty"`
	Bot      bool      `json:"bot,omitempty"`
	Guest    bool      `json:"guest,omitempty"`
	Stranger bool      `json:"stranger,omitempty"`
	Invited  bool      `json:"invited,omitempty"`
	ReadAt   time.Time `json:"read_at"`
}

// SlackGroup is what Slack says of a user group.
type SlackGroup struct {
	ID     string `json:"id"`
	Handle string `json:"handle,omitempty"`
	// Members are ids of accounts. A group that is disabled has none that count.
	Members  []string  `json:"members,omitempty"`
	Disabled bool      `json:"disabled,omitempty"`
	ReadAt   time.Time `json:"read_at"`
}

// UserGroups lists the ids of the Slack user groups that groups stand for, sorted.
func (c *Config) UserGroups() []string {
	var out []string
	for _, g := range c.Groups {
		if g.SlackUsergroup != "" {
			out = append(out, g.SlackUsergroup)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SlackRefusal says why an account may not act: it is deactivated, a bot, a guest, of
// another organisation, has not joined yet or is in no workspace that is configured. "" when
// it may. Of an account that nothing is known of it may not. The words follow on "because ".
func (c *Config) SlackRefusal(u SlackUser) string {
	switch {
	case u.ID == "":
		return "Slack said nothing of this account"
	case u.Deleted:
		return "this Slack account is deactivated"
	case u.Bot:
		return "this Slack account is a bot"
	case u.Guest:
		return "this Slack account is a guest"
	case u.Stranger:
		return "this Slack account is of another organisation"
	case u.Invited:
		return "this Slack account has not joined yet"
	case !c.Slack.admits(u):
		return "this Slack account is in none of the workspaces that are configured"
	}
	return ""
}

// admits reports whether an account is in a configured workspace or organisation.
func (s Slack) admits(u SlackUser) bool {
	return slices.ContainsFunc(append([]string{u.TeamID, u.EnterpriseID}, u.Teams...), func(id string) bool {
		return id != "" && (slices.Contains(s.TeamIDs, id) || id == u.EnterpriseID && slices.Contains(s.EnterpriseIDs, id))
	})
}

// With returns the configuration as it stands with what Slack says: user groups have their
// members, people without a Slack id may be known by their address, and those whose account
// may not act count as nobody. Facts replace those of before. The digest stays the same: who
// is asked is configured, and facts only tell who that is. It is cheap.
//
// A person counts as nobody when their first Slack account, the configured one, may not act:
// that is how a company says that somebody has left. A further account that may not act is
// itself of no use, but takes nothing from the others.
func (c *Config) With(f Facts) *Config {
	if c.base != nil {
		c = c.base
	}
	out := *c
	out.base, out.facts = c, f
	out.match(f)
	dir := c.directory
	dir.People = make(map[string]approvals.Person, len(out.People))
	for _, p := range out.People {
		dir.People[p.Name] = p
	}
	dir.Inactive = out.inactive(f)
	dir.Groups = maps.Clone(c.directory.Groups)
	accounts := out.accounts()
	out.told = make(map[string]bool)
	for _, g := range out.Groups {
		if id := g.SlackUsergroup; id != "" {
			dir.Groups[g.Name], out.told[id] = out.members(f, id, accounts), f.Groups[id].ID == id
		}
	}
	out.directory = dir
	return &out
}

// SlackUser returns what Slack says of an account; false when nothing is known of it.
func (c *Config) SlackUser(id string) (SlackUser, bool) {
	u, known := c.facts.Users[id]
	return u, known && u.ID == id && id != ""
}

// match gives their Slack account to people who have none configured, by address.
func (c *Config) match(f Facts) {
	if !c.Slack.MatchEmail {
		return
	}
	c.People = slices.Clone(c.People)
	for i, u := range c.byAddress(f) {
		c.People[i].Slack = u.ID
	}
}

// byAddress says which accounts are people's by their address alone. An address that two
// accounts have is nobody's: which of them is meant cannot be known, and that one of them
// is deactivated must not hand it to the other.
func (c *Config) byAddress(f Facts) map[int]SlackUser {
	out, twice, taken := make(map[int]SlackUser), make(map[int]bool), c.accounts()
	for id, u := range f.Users {
		i, ok := c.byEmail[strings.ToLower(u.Email)]
		if !ok || !u.EmailConfirmed || !c.Slack.trusts(u.Email) || c.People[i].Slack != "" || u.ID != id {
			continue
		}
		if _, configured := taken[id]; configured {
			continue
		}
		_, again := out[i]
		twice[i] = twice[i] || again
		out[i] = u
	}
	maps.DeleteFunc(out, func(i int, _ SlackUser) bool { return twice[i] })
	return out
}

// trusts reports whether an address is one by which people may be known.
func (s Slack) trusts(email string) bool {
	at := strings.LastIndexByte(email, '@')
	plain := !strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r > '~' })
	return at > 0 && plain && slices.Contains(s.EmailDomains, strings.ToLower(email[at+1:]))
}

// accounts says whose each Slack account is, by its id. One that two people have is in it
// as nobody's.
func (c *Config) accounts() map[string]string {
	out := make(map[string]string, len(c.People))
	for _, p := range c.People {
		for _, id := range append([]string{p.Slack}, p.Accounts...) {
			before, twice := out[id]
			if out[id] = p.Name; twice && before != p.Name {
				out[id] = ""
			}
		}
	}
	delete(out, "")
	return out
}

// inactive says of people why they count as nobody.
func (c *Config) inactive(f Facts) map[string]string {
	out := make(map[string]string)
	for _, p := range c.People {
		if u, known := f.Users[p.Slack]; known && p.Slack != "" {
			if why := c.SlackRefusal(u); why != "" {
				out[p.Name] = why
			}
		}
	}
	return out
}

// members are the people in a user group. Accounts that are nobody's, or may not act, bring
// nobody into it.
func (c *Config) members(f Facts, id string, accounts map[string]string) []string {
	g, out := f.Groups[id], []string{}
	if g.ID != id || g.Disabled {
		return out
	}
	for _, account := range g.Members {
		u, known := f.Users[account]
		if name := accounts[account]; name != "" && (!known || c.SlackRefusal(u) == "") && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Confirm is how deliberate an approval of a ticket has to be now: as its plan says, or as
// today's policy does, whichever is stricter.
func (c *Config) Confirm(t approvals.Ticket) approvals.Confirm {
	today := c.Today(t)
	if today.Action != approvals.ActionApprove {
		return t.Plan.Confirm
	}
	return t.Plan.Confirm.Stricter(today.Confirm)
}
