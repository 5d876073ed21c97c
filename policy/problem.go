package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// File is the path as it was given. Line and Column count from 1, in characters; Line is
	// 0 when the problem is one of the whole file or directory.
	File         string
	Line, Column int
	Message      string
	// Hint says what to do about it, "" when there is nothing to add.
	Hint string
	// Excerpt is the line with a caret under the column, secrets blanked. "" without a line.
	Excerpt string
}

// String returns the problem as Error of [Problems] prints it.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Problems is everything that is wrong with a configuration, ordered by position. It never
// contains a secret.
type Problems []Problem

// Error prints every problem with its excerpt.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds a report; a file with more is no configuration at all.
const maxProblems = 500

// ordered sorts by position and drops repetitions.
func (p Problems) ordered(fileOrder map[string]int) Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(fileOrder[a.File], fileOrder[b.File]), cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		)
	})
	p = slices.Compact(p)
	if len(p) > maxProblems {
		more := Problem{File: p[maxProblems].File, Message: fmt.Sprintf("%d more problems are not shown", len(p)-maxProblems)}
		p = append(p[:maxProblems:maxProblems], more)
	}
	return p
}
