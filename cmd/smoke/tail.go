package main

import (
	"bytes"
	"strings"
	"sync"
)

const (
	tailLines = 40
	tailBytes = 64 << 10
)

// tail keeps the end of what is written, and every line that is about an error.
type tail struct {
	mu     sync.Mutex
	kept   []byte
	part   []byte // a line whose end has not come
	errors []string
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - tailBytes; extra > 0 {
		t.kept = t.kept[extra:]
	}
	t.part = append(t.part, p...)
	for {
		line, rest, whole := bytes.Cut(t.part, []byte("\n"))
		if !whole {
			break
		}
		if bytes.Contains(line, []byte(`"level":"ERROR"`)) || bytes.HasPrefix(line, []byte("panic:")) {
			t.errors = append(t.errors, string(line))
		}
		t.part = rest
	}
	if len(t.part) > tailBytes {
		t.part = nil
	}
	return len(p), nil
}

// text is the last lines.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimRight(string(t.kept), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// wrong returns the lines about errors.
func (t *tail) wrong() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string{}, t.errors...)
}
