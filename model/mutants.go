package model

import (
	"countersign/approvals"
)

// Mutant is one mistake, in a verb or in what lies around it.
type Mutant struct {
	// Name says what is wrong.
	Name string
	// needs are the bounds without which it does no harm, besides those of every mutant.
	needs Config
	apply func(*machine)
}

// Config returns bounds under which the mutant has to be caught.
func (m Mutant) Config() Config {
	c := m.needs
	c.Ticks, c.Claims, c.Mutant = 6, 2, &m
	return c
}

// Mutants lists the mistakes that have to be caught.
func Mutants() []Mutant {
	return []Mutant{
		{Name: "the door does not check the epoch", needs: Config{Faults: 1}, apply: func(m *machine) {
			begin := m.begin
			m.begin = func(t approvals.Ticket, _ int64, _ string, s scene) (approvals.Transition, error) {
				return begin(t, t.Epoch, t.Worker, s)
			}
		}},
		{Name: "the call is sent before the intent is committed", apply: func(m *machine) { m.early = true }},
		{Name: "a commit at the door of unknown fate counts as done", needs: Config{Faults: 1}, apply: func(m *machine) { m.hope = true }},
		{Name: "the claim does not check the state", apply: func(m *machine) {
			claim := m.claim
			m.claim = func(t approvals.Ticket, worker string, s scene) (approvals.Transition, error) {
				t.State, t.Worker, t.ExecuteBy = approvals.Approved, "", s.now.Add(tick)
				return claim(t, worker, s)
			}
		}},
		{Name: "the claim does not count the votes again", needs: Config{Leaves: 1}, apply: func(m *machine) {
			m.claim = func(t approvals.Ticket, worker string, s scene) (approvals.Transition, error) {
				return t.Claim(worker, people(false), t.Plan, s.now)
			}
			m.begin = func(t approvals.Ticket, epoch int64, worker string, s scene) (approvals.Transition, error) {
				return t.BeginExecution(epoch, worker, t.Digest, people(false), t.Plan, s.now)
			}
		}},
		{Name: "the sweeper frees a claim that has begun", apply: func(m *machine) {
			abandon := m.abandon
			m.abandon = func(t approvals.Ticket, epoch int64, s scene) (approvals.Transition, error) {
				if t.State == approvals.Executing {
					t.State = approvals.Approved
				}
				return abandon(t, epoch, s)
			}
		}},
		{Name: "the sweeper passes over those who have begun", needs: Config{Crashes: 1}, apply: func(m *machine) { m.blind = true }},
		{Name: "a tier that fires approves", apply: func(m *machine) {
			escalate := m.escalate
			m.escalate = func(t approvals.Ticket, s scene) (approvals.Transition, error) {
				tr, err := escalate(t, s)
				if err == nil && tr.Ticket.State.Open() {
					tr.Ticket.State, tr.Ticket.ApprovedAt, tr.Ticket.ExecuteBy = approvals.Approved, s.now, s.now.Add(tick)
				}
				return tr, err
			}
		}},
		{Name: "the deadline ignores the state", apply: func(m *machine) {
			expire := m.expire
			m.expire = func(t approvals.Ticket, s scene) (approvals.Transition, error) {
				t.State = approvals.Pending
				return expire(t, s)
			}
		}},
		{Name: "the outcome of an earlier claim is accepted", needs: Config{Idempotent: true}, apply: func(m *machine) {
			finish := m.finish
			m.finish = func(t approvals.Ticket, _ int64, _ string, o approvals.Outcome, s scene) (approvals.Transition, error) {
				return finish(t, t.Epoch, t.Worker, o, s)
			}
		}},
		{Name: "a job delivered again goes on with the claim it finds", needs: Config{Faults: 1}, apply: func(m *machine) {
			m.skip = true
			m.begin = func(t approvals.Ticket, epoch int64, _ string, s scene) (approvals.Transition, error) {
				return t.BeginExecution(epoch, t.Worker, t.Digest, s.dir, s.today, s.now)
			}
		}},
		{Name: "a stricter policy is not looked at at the door", needs: Config{Reloads: 1}, apply: func(m *machine) {
			m.begin = func(t approvals.Ticket, epoch int64, worker string, s scene) (approvals.Transition, error) {
				return t.BeginExecution(epoch, worker, t.Digest, s.dir, t.Plan, s.now)
			}
		}},
		{Name: "the door goes by the time of the approval", apply: func(m *machine) {
			m.begin = func(t approvals.Ticket, epoch int64, worker string, s scene) (approvals.Transition, error) {
				return t.BeginExecution(epoch, worker, t.Digest, s.dir, s.today, t.ApprovedAt)
			}
		}},
		{Name: "a scheduled call is claimed at once", needs: Config{Delayed: true}, apply: func(m *machine) {
			m.claim = func(t approvals.Ticket, worker string, s scene) (approvals.Transition, error) {
				t.NotBefore = start
				tr, err := t.Claim(worker, s.dir, s.today, s.now)
				tr.Ticket.NotBefore = at(1)
				return tr, err
			}
		}},
		{Name: "a cancel ends what is being sent", needs: Config{Cancels: 1}, apply: func(m *machine) {
			cancel := m.cancel
			m.cancel = func(t approvals.Ticket, s scene) (approvals.Transition, error) {
				if t.State == approvals.Executing {
					t.State = approvals.Approved
				}
				return cancel(t, s)
			}
		}},
		{Name: "a vote is written over what was not read", apply: func(m *machine) { m.lost = true }},
		{Name: "a change is kept without its event", apply: func(m *machine) {
			m.store = func(_ approvals.Ticket, tr approvals.Transition) approvals.Transition {
				if tr.Events[len(tr.Events)-1].Type == approvals.EventExpired {
					tr.Events = tr.Events[:len(tr.Events)-1]
				}
				return tr
			}
		}},
		{Name: "a doubt is called a failure", apply: func(m *machine) {
			abandon := m.abandon
			m.abandon = func(t approvals.Ticket, epoch int64, s scene) (approvals.Transition, error) {
				tr, err := abandon(t, epoch, s)
				if tr.Ticket.State == approvals.OutcomeUnknown {
					tr.Ticket.State = approvals.Failed
				}
				return tr, err
			}
		}},
	}
}
