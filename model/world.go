package model

import "fmt"

// place is how far a worker process has come with the job of the ticket, as package jobs
// does it: claim, door, call, record.
type place int8

const (
	idle place = iota
	claimed
	begun // past the door: nothing is sent yet
	answered
	unanswered
	unsent // provably
	dead
)

func (p place) String() string {
	return [...]string{"idle", "claimed", "begun", "answered", "unanswered", "unsent", "dead"}[p]
}

// process is one worker process. A new one after a crash has another name.
type process struct {
	at    place
	life  int8 // how often it was started anew
	epoch int8
	// tried: the door was tried and its commit may be in doubt.
	tried bool
	// passed is not for the process to see: its intent to send is in the database.
	passed bool
	// sent is not for others to see: this life has sent the call under this claim.
	sent bool
}

func (p process) name(i int) string { return fmt.Sprintf("worker-%d.%d", i+1, p.life) }

// world is one state of everything. Equal worlds have the same future.
type world struct {
	ticket  int32 // its essence, by number
	old     int32 // what somebody read who will write without looking again; a mutant's
	clock   int8
	policy  int8
	gone    bool
	workers [2]process
	seen    int8 // the epoch of a claim that the sweeper is about to take away
	sends   int8
	// what is left of the bounds
	claims, crashes, faults, cancels, leaves, reloads int8
}
