package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// score counts expectations and prints one line for each.
type score struct {
	out            io.Writer
	passed, failed int
}

func (s *score) title(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "\n%s\n", fmt.Sprintf(format, args...))
}

// check notes whether an expectation holds.
func (s *score) check(ok bool, format string, args ...any) {
	if !ok {
		s.fail(format, args...)
		return
	}
	s.passed++
	_, _ = fmt.Fprintf(s.out, "  ok    %s\n", fmt.Sprintf(format, args...))
}

func (s *score) fail(format string, args ...any) {
	s.failed++
	_, _ = fmt.Fprintf(s.out, "  FAIL  %s\n", fmt.Sprintf(format, args...))
}

// equal is check with what was wanted and what there is.
func (s *score) equal(what string, want, got any) {
	if !reflect.DeepEqual(want, got) {
		s.fail("%s: want %v, got %v", what, want, got)
		return
	}
	s.check(true, "%s", what)
}

// contains is check for a text that should say each of the words.
func (s *score) contains(what, text string, words ...string) {
	for _, w := range words {
		if !strings.Contains(text, w) {
			s.fail("%s: %q is missing in:\n%s", what, w, indent(text))
			return
		}
	}
	s.check(true, "%s", what)
}

// none is check for something that should have no entries.
func (s *score) none(what string, found []string) {
	if len(found) > 0 {
		s.fail("%s:\n%s", what, indent(strings.Join(found, "\n")))
		return
	}
	s.check(true, "%s", what)
}

func indent(text string) string { return "          " + strings.ReplaceAll(text, "\n", "\n          ") }

const pollEvery = 25 * time.Millisecond

var (
	errLate         = errors.New("it did not happen in time")
	errNoDialog     = errors.New("the dialog is not open any more")
	errNotSubmitted = errors.New("the ticket was not submitted before the restart")
)

// until asks again and again whether something is so, for as long as limit.
func until(ctx context.Context, limit time.Duration, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := so(ctx)
		switch {
		case ctx.Err() != nil:
			return errLate
		case ok || err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errLate
		}
	}
}
