//go:build unix

package credential

import (
	"os/exec"
	"syscall"
)

// inGroup gives a program a process group, all of which is killed at its deadline.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
