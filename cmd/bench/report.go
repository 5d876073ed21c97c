package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// atLeast prints a ratio that should be large, atMost a figure that should be small.
func atLeast(w io.Writer, name string, value, goal float64, note string) {
	line(w, name, value, ">=", goal, "x", value >= goal, note)
}

func atMost(w io.Writer, name string, value, goal float64, unit, note string) {
	line(w, name, value, "<=", goal, unit, value <= goal, note)
}

func line(w io.Writer, name string, value float64, relation string, goal float64, unit string, ok bool, note string) {
	verdict := "short"
	if ok {
		verdict = "ok"
	}
	_, _ = fmt.Fprintf(w, "%-34s %8.2f%-3s %s%.2f%-3s %-6s %s\n", name, value, unit, relation, goal, unit, verdict, note)
}

// quantile of sorted durations; the zero duration when there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func sorted(d []time.Duration) []time.Duration {
	slices.Sort(d)
	return d
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
