package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// goneLimit is how long a process may still be seen after dev has ended: it has been
// waited for, but its own parent may be slow to take note.
const goneLimit = time.Second

type process struct {
	pid, parent int
	command     string
}

// family returns the child, its descendants, and whatever works on its directory.
func family(ctx context.Context, pid int, dir string) ([]process, error) {
	all, err := processes(ctx)
	if err != nil {
		return nil, err
	}
	known := map[int]bool{pid: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !known[p.pid] && (known[p.parent] || strings.Contains(p.command, dir)) && p.pid != os.Getpid() {
				known[p.pid], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p process) bool { return !known[p.pid] }), nil
}

// survivors waits until none of them is left, and returns those who are.
func survivors(ctx context.Context, were []process) ([]string, error) {
	var left []string
	err := until(ctx, goneLimit, func(ctx context.Context) (bool, error) {
		now, err := processes(ctx)
		left = nil
		for _, p := range now {
			if slices.ContainsFunc(were, func(w process) bool { return w.pid == p.pid }) {
				left = append(left, fmt.Sprintf("%d %s", p.pid, p.command))
			}
		}
		return len(left) == 0, err
	})
	if err == errLate { //nolint:errorlint // our own, never wrapped
		err = nil
	}
	return left, err
}

// processes lists what runs on this machine, without zombies and the kernel's own.
func processes(ctx context.Context) ([]process, error) {
	if stats, _ := filepath.Glob("/proc/[0-9]*/stat"); len(stats) > 0 {
		return fromProc(stats), nil
	}
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,ppid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []process
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && !strings.Contains(f[2], "<defunct>") {
			all = append(all, process{pid: number(f[0]), parent: number(f[1]), command: strings.Join(f[2:], " ")})
		}
	}
	return all, nil
}

func fromProc(stats []string) []process {
	var all []process
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		command, err2 := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil || err2 != nil || len(command) == 0 {
			continue // gone, a zombie, or the kernel's
		}
		// After the name, which may hold anything but ends with the last bracket: state, parent.
		rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(rest) < 2 {
			continue
		}
		all = append(all, process{
			pid: number(filepath.Base(filepath.Dir(path))), parent: number(rest[1]),
			command: strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")),
		})
	}
	return all
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // no process has number 0
	return n
}
