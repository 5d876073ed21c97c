package jobs

import "sync"

// busy holds the tickets this process is executing. A second job for one of them does not
// wait and is not lost either: it may be the wake-up that follows the release of the very
// claim under way, so whoever is at it looks at the ticket once more before it leaves.
type busy struct {
	mu    sync.Mutex
	again map[string]bool // by ticket: whether another job came meanwhile
}

// enter reports whether the ticket was free. Otherwise who has it is asked to look again.
func (b *busy) enter(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.again[id]; taken {
		b.again[id] = true
		return false
	}
	if b.again == nil {
		b.again = make(map[string]bool)
	}
	b.again[id] = false
	return true
}

// more reports whether another job came meanwhile, and forgets that it did; if none did,
// the ticket is free again.
func (b *busy) more(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again[id] {
		b.again[id] = false
		return true
	}
	delete(b.again, id)
	return false
}

// leave frees the ticket.
func (b *busy) leave(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.again, id)
}

// holds reports whether this process is executing the ticket.
func (b *busy) holds(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, taken := b.again[id]
	return taken
}
