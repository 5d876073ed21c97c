package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc's CPU times on Linux.
const tick = 10 * time.Millisecond

// postgresCPU is the CPU time that our Postgres has used so far, its finished backends
// included; zero where there is no /proc.
func (b *bench) postgresCPU() time.Duration {
	postmaster := b.postmaster()
	if postmaster == 0 {
		return 0
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var total time.Duration
	for _, path := range stats {
		pid, parent, used := readStat(path)
		if pid == postmaster || parent == postmaster {
			total += used
		}
	}
	return total
}

func (b *bench) postmaster() int {
	files, _ := filepath.Glob(filepath.Join(b.dir, "data", "pg*", "data", "postmaster.pid")) // the pattern is good
	if len(files) == 0 {
		return 0
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first)) // zero when unreadable
	return pid
}

// readStat reads a process's id, parent and CPU time, that of its waited-for children
// included (proc(5)).
func readStat(path string) (pid, parent int, used time.Duration) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, 0
	}
	open, closing := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 1 || closing < 0 {
		return 0, 0, 0
	}
	fields := strings.Fields(string(raw[closing+1:]))
	if len(fields) < 15 {
		return 0, 0, 0
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	parent, _ = strconv.Atoi(fields[1])
	for _, i := range []int{11, 12, 13, 14} {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		used += time.Duration(n) * tick
	}
	return pid, parent, used
}

// residentMiB is a process's resident memory.
func residentMiB(pid int) float64 {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}

// processCPU is the CPU time a process has used.
func processCPU(pid int) time.Duration {
	_, _, used := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return used
}
