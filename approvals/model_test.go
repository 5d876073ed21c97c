package approvals_test

import (
	"slices"

	"countersign/approvals"
)

// This file is a second, naive opinion of who counts: no matching algorithm, only the
// trying of every assignment of people to places. It shares no code with the domain.

// ballot is one accepted vote as the model remembers it.
type ballot struct {
	person string
	stage  int
	yes    bool
	digest string
}

// allowed reports whether a person is meant by a name in a directory.
func allowed(name, who string, dir approvals.Directory) bool {
	if _, exists := dir.People[who]; !exists {
		return false
	}
	if members, isGroup := dir.Groups[name]; isGroup {
		return slices.Contains(members, who)
	}
	return name == who
}

// places spells out every single place of a stage after some tiers, as the list of
// names that may fill it.
func places(s approvals.Stage, tiers int) [][]string {
	var out [][]string
	for _, need := range s.Need {
		names := slices.Clone(need.From)
		for _, tier := range s.Escalate[:tiers] {
			if tier.Mode == approvals.ModeReplace {
				names = nil
			}
			names = append(names, tier.To...)
		}
		for range need.Approvals {
			out = append(out, names)
		}
	}
	return out
}

// most is how many of the people can be seated at once, found by trying everything.
func most(seats [][]string, people []string, dir approvals.Directory) int {
	if len(people) == 0 || len(seats) == 0 {
		return 0
	}
	who, rest := people[0], people[1:]
	best := most(seats, rest, dir) // leave them out
	for i, names := range seats {
		fits := slices.ContainsFunc(names, func(n string) bool { return allowed(n, who, dir) })
		if !fits || slices.ContainsFunc(seats[:i], func(s []string) bool { return slices.Equal(s, names) }) {
			continue
		}
		best = max(best, 1+most(slices.Delete(slices.Clone(seats), i, i+1), rest, dir))
		if best == min(len(seats), len(people)) {
			break
		}
	}
	return best
}

// asker reports whether a person counts as the requester.
func asker(who, onBehalfOf string, frozen []string, dir approvals.Directory) bool {
	p, exists := dir.People[who]
	mine := exists && onBehalfOf != "" && (who == onBehalfOf || p.Email == onBehalfOf || p.Slack == onBehalfOf)
	return mine || slices.Contains(frozen, who) || slices.Contains(dir.Owners[caller], who)
}

// completable tries every way to seat the people who have not voted in what is left of
// a plan, beside those who have, with every tier fired that can fire before the end.
func completable(plan approvals.Plan, stage int, votes []ballot, frozen []string, onBehalfOf string, dir approvals.Directory) bool {
	type seat struct {
		stage int
		names []string
	}
	var seats []seat
	for i := stage; i < len(plan.Stages); i++ {
		tiers := 0
		for tiers < len(plan.Stages[i].Escalate) && plan.Stages[i].Escalate[tiers].After < plan.ExpiresIn {
			tiers++
		}
		for _, names := range places(plan.Stages[i], tiers) {
			seats = append(seats, seat{i, names})
		}
	}
	used := map[string]bool{}
	var fill func(n int) bool
	fill = func(n int) bool {
		if n == len(seats) {
			return true
		}
		for who := range dir.People {
			if used[who] || asker(who, onBehalfOf, frozen, dir) {
				continue
			}
			spent := slices.ContainsFunc(votes, func(b ballot) bool {
				return b.person == who && (b.stage != seats[n].stage || !b.yes)
			})
			if spent || !slices.ContainsFunc(seats[n].names, func(name string) bool { return allowed(name, who, dir) }) {
				continue
			}
			used[who] = true
			if fill(n + 1) {
				return true
			}
			used[who] = false
		}
		return false
	}
	return fill(0)
}
