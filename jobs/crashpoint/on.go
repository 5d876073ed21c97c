//go:build faultinject

package crashpoint

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

var stopped sync.Once

// Hit kills the process with SIGKILL when the environment variable CRASH names this
// point; with CRASH_SIGNAL=STOP it is stopped there instead, once, until somebody sends
// SIGCONT. Only builds with the tag faultinject do so; a test sees to it that the
// ordinary binary does not hold it.
func Hit(point string) {
	if os.Getenv("CRASH") != point {
		return
	}
	if os.Getenv("CRASH_SIGNAL") == "STOP" {
		stopped.Do(stop)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // dead before the next instruction counts
}

// stop does not return before the process goes on. The signal is for all threads and reaches
// one of them at a time: without waiting, the one that sent it might get far beyond the point.
func stop() {
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	defer signal.Stop(goesOn)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	<-goesOn
}
