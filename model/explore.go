package model

import (
	"fmt"
	"slices"

	"countersign/approvals"
)

// Config bounds an exploration.
type Config struct {
	// Idempotent explores a call to an upstream that may be asked again, Delayed one that
	// is not to be made before the first tick.
	Idempotent, Delayed bool
	// Ticks is how far the clock goes. Below 6 some deadlines never come, and a ticket may
	// seem to be stuck.
	Ticks int
	// Claims, Crashes and Faults are how many times at most the ticket is claimed, a process
	// dies, and the fate of a commit is hidden from it. Zero: never.
	Claims, Crashes, Faults int
	// Cancels, Leaves and Reloads are how many times the caller cancels, ana leaves and the
	// policy becomes stricter: 0 or 1.
	Cancels, Leaves, Reloads int
	// Views says that ana may read the whole call before it is final.
	Views bool
	// Mutant is the mistake that is made; nil: none.
	Mutant *Mutant
}

// Report is what an exploration found.
type Report struct {
	// States, Tickets and Steps are how many were seen: states of the whole, essences of
	// the ticket, and steps from state to state. Depth is the length of the longest of the
	// shortest ways to a state.
	States, Tickets, Steps, Depth int
	// Wrong says what was found; "" when nothing was. Trace is a shortest way there.
	Wrong string
	Trace []string
	// Ends counts the states of the whole in which the ticket is final, by its state.
	Ends map[approvals.State]int
}

// edge is one step.
type edge struct {
	label string
	to    world
	// own steps are taken by the machinery itself, without people or misfortune.
	own   bool
	wrong string
}

// explorer remembers what was seen.
type explorer struct {
	machine *machine
	tickets []approvals.Ticket
	essence map[string]int32
	memory  map[call]answer
	states  []world
	known   map[world]int32
	from    []int32
	how     []string
	ahead   [][2]int32 // own steps
	steps   int
	out     []edge
}

// Explore visits every state within bounds, or as many as it takes to find one that is
// wrong. The error says that the model itself cannot begin.
func Explore(c Config) (Report, error) {
	first, err := submitted(c)
	if err != nil {
		return Report{}, fmt.Errorf("submit the ticket of the model: %w", err)
	}
	e := &explorer{machine: newMachine(c), essence: map[string]int32{}, memory: map[call]answer{}, known: map[world]int32{}}
	e.visit(world{
		ticket: e.number(first), old: -1, claims: int8(c.Claims), crashes: int8(c.Crashes), faults: int8(c.Faults), //nolint:gosec // small
		cancels: int8(c.Cancels), leaves: int8(c.Leaves), reloads: int8(c.Reloads), //nolint:gosec // small
	}, -1, "submitted")
	depth, last := 0, 0
	for i := 0; i < len(e.states); i++ {
		if i > last {
			depth, last = depth+1, len(e.states)-1
		}
		for _, step := range e.next(e.states[i]) {
			e.steps++
			if step.wrong != "" {
				return e.report(depth, step.wrong, append(e.trace(i), step.label)), nil
			}
			to := e.visit(step.to, int32(i), step.label)
			if step.own {
				e.ahead = append(e.ahead, [2]int32{int32(i), to})
			}
		}
	}
	if i := e.stuck(); i >= 0 {
		return e.report(depth, "the machinery does not bring the ticket to an end by itself any more", e.trace(i)), nil
	}
	return e.report(depth, "", nil), nil
}

// number gives each essence of a ticket one, and keeps the first ticket that has it.
func (e *explorer) number(t approvals.Ticket) int32 {
	key := essence(t)
	n, known := e.essence[key]
	if !known {
		n = int32(len(e.tickets)) //nolint:gosec // bounded by memory
		e.essence[key] = n
		e.tickets = append(e.tickets, t)
	}
	return n
}

func (e *explorer) visit(w world, from int32, how string) int32 {
	if n, known := e.known[w]; known {
		return n
	}
	n := int32(len(e.states)) //nolint:gosec // bounded by memory
	e.known[w] = n
	e.states, e.from, e.how = append(e.states, w), append(e.from, from), append(e.how, how)
	return n
}

// trace is a shortest way to a state.
func (e *explorer) trace(i int) (out []string) {
	for n := int32(i); n >= 0; n = e.from[n] { //nolint:gosec // bounded by memory
		out = append(out, e.how[n])
	}
	slices.Reverse(out)
	return out
}

// stuck finds a state from which the machinery's own steps lead to no end, negative for
// none.
func (e *explorer) stuck() int {
	back := make([][]int32, len(e.states))
	for _, step := range e.ahead {
		back[step[1]] = append(back[step[1]], step[0])
	}
	ends, todo := make([]bool, len(e.states)), []int32{}
	for i, w := range e.states {
		if ends[i] = e.tickets[w.ticket].Done(); ends[i] {
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, before := range back[n] {
			if !ends[before] {
				ends[before] = true
				todo = append(todo, before)
			}
		}
	}
	return slices.Index(ends, false)
}

func (e *explorer) report(depth int, wrong string, trace []string) Report {
	r := Report{
		States: len(e.states), Tickets: len(e.tickets), Steps: e.steps, Depth: depth, Wrong: wrong, Trace: trace,
		Ends: map[approvals.State]int{},
	}
	for _, w := range e.states {
		if t := e.tickets[w.ticket]; t.Done() {
			r.Ends[t.State]++
		}
	}
	return r
}
