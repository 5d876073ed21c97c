//go:build faultinject

package crashpoint

import (
	"os"
	"syscall"
)

// Hit kills the process with SIGKILL when the environment variable CRASH names this
// point. Only builds with the tag faultinject do so; a test sees to it that the ordinary
// binary does not hold it.
func Hit(point string) {
	if os.Getenv("CRASH") == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // dead before the next instruction counts
	}
}
