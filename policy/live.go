package policy

import (
	"fmt"
	"maps"
	"slices"

	"countersign/approvals"
)

// userGroup finds the groups that stand for a user group, by its id.
func (c *Config) userGroup(id string) []string {
	var out []string
	for _, g := range c.Groups {
		if g.SlackUsergroup == id {
			out = append(out, g.Name)
		}
	}
	return out
}

// unknown says of which user groups that a plan asks nobody knows who is in them, as
// without Slack it is of all: "oncall (Slack user group S0ONCALL)".
func (c *Config) unknown(p approvals.Plan) []string {
	var out []string
	for _, name := range p.Asks() {
		id := c.directory.Live[name]
		text := fmt.Sprintf("%s (Slack user group %s)", name, id)
		if id != "" && !c.told[id] && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// assume is a configuration as it stands when these people, by name, are in user groups, by
// id.
func (c *Config) assume(groups map[string][]string) *Config {
	if len(groups) == 0 {
		return c
	}
	out := *c
	out.directory.Groups, out.told = maps.Clone(c.directory.Groups), make(map[string]bool)
	maps.Copy(out.told, c.told)
	for id, people := range groups {
		out.told[id] = true
		for _, name := range out.userGroup(id) {
			out.directory.Groups[name] = people
		}
	}
	return &out
}
