package emulator

import (
	"context"
	"time"
)

// lifetime is the context of what the workspace does of its own accord, such as sending an
// event: it ends with the server.
type lifetime struct{ s *Server }

func (s *Server) life() context.Context { return lifetime{s} }

// Deadline says that there is none.
func (lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed with the server.
func (l lifetime) Done() <-chan struct{} { return l.s.done }

// Err is context.Canceled once the server is closed.
func (l lifetime) Err() error {
	if l.s.isClosed() {
		return context.Canceled
	}
	return nil
}

// Value holds nothing.
func (lifetime) Value(any) any { return nil }
