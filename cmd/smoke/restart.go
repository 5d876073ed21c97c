package main

import (
	"context"
	"fmt"
	"slices"
)

// open are the tickets that are not over when dev stops.
type open struct {
	// refund has nobody's approval, chain is one short of its last quorum.
	refund, chain string
	// before is every ticket as the list had it.
	before []ticket
}

// start runs dev and turns to it.
func (s *smoke) start(ctx context.Context, binary, dir string, port int) error {
	s.title("countersign dev --port %d --json --dir %s", port, dir)
	began := s.now()
	d, err := startDev(ctx, binary, dir, port)
	if d != nil {
		s.dev = d
	}
	if err != nil {
		return err
	}
	s.check(true, "it says where everything is (after %.1f s)", s.now().Sub(began).Seconds())
	http, at := newHTTP(), d.hello
	s.api = &api{http: http, base: at.API, key: at.APIKey}
	s.person = &api{http: http, base: at.API, key: at.PersonKey}
	s.slack = &workspace{http: http, base: at.Slack}
	s.demo = &demo{http: http, upstream: at.Upstream, callback: at.Callback}
	return until(ctx, startLimit, func(ctx context.Context) (bool, error) {
		a, err := exchange(ctx, http, "GET", at.API+"/readyz", nil)
		return err == nil && a.status == 200, nil
	})
}

// stop presses Ctrl-C: dev has to end well, soon, and with everything it started.
func (s *smoke) stop(ctx context.Context, dir string) {
	s.title("Ctrl-C")
	were, err := family(ctx, s.dev.cmd.Process.Pid, dir)
	if err != nil {
		s.fail("look at dev's processes: %v", err)
	}
	s.check(len(were) > 1, "dev and its database are %d processes", len(were))
	began := s.now()
	err = s.dev.interrupt(ctx)
	if err != nil {
		s.fail("dev ends with exit code 0 within %s: %v", stopLimit, err)
		s.dev.abandon()
	} else {
		s.check(true, "dev ends with exit code 0 within %s (%.1f s)", stopLimit, s.now().Sub(began).Seconds())
	}
	left, err := survivors(ctx, were)
	if err != nil {
		s.fail("look for processes that are left: %v", err)
	}
	s.none("nothing it started is left", left)
	s.none("dev logged no error while it stopped", s.dev.stderr.wrong())
}

// leaveOpen submits what the second start has to go on with.
func (s *smoke) leaveOpen(ctx context.Context) (o open) {
	s.try(ctx, "two tickets are left open", func(ctx context.Context) error {
		_, refund, err := s.api.submit(ctx, s.refund("before the restart"))
		if err != nil {
			return err
		}
		_, chain, err := s.api.submit(ctx, s.erasure())
		if err != nil {
			return err
		}
		o.refund, o.chain = refund.ID, chain.ID
		if err := s.halfWay(ctx, o); err != nil {
			return err
		}
		o.before, err = s.api.list(ctx, "page_size=200")
		return err
	})
	return o
}

// halfWay gives the chain its first stage and half of its second.
func (s *smoke) halfWay(ctx context.Context, o open) error {
	if _, err := s.steady(ctx, o.refund); err != nil {
		return err
	}
	first, err := s.slack.card(ctx, o.chain, 1, true)
	if err != nil {
		return err
	}
	if err := s.press(ctx, "dev", first); err != nil {
		return err
	}
	second, err := s.slack.card(ctx, o.chain, 2, true)
	if err != nil {
		return err
	}
	return s.press(ctx, "bo", second)
}

// goOn decides after a restart what was left open before it.
func (s *smoke) goOn(ctx context.Context, o open) {
	s.try(ctx, "the second start", func(ctx context.Context) error { return s.remembered(ctx, o) })
	s.try(ctx, "(b) submitted before the restart, approved after it", func(ctx context.Context) error {
		return s.resumed(ctx, o.refund, "0 of 1", "chen", []string{"Executed: POST", "Approved by @chen"})
	})
	s.try(ctx, "(c) one approval short before the restart", func(ctx context.Context) error {
		return s.resumed(ctx, o.chain, "1 of 2: @bo", "chen", []string{"Executed: DELETE", "@dev, @bo and @chen"})
	})
	s.try(ctx, "(a) after the restart", s.allowed)
	s.try(ctx, "nothing happened twice", func(ctx context.Context) error {
		calls, err := s.demo.calls(ctx)
		if err != nil {
			return err
		}
		s.equal("the upstream got the three calls and no other", 3, len(calls))
		return nil
	})
}

// remembered compares the tickets with those of the first run. Those that are open may
// have been shown again, which is an event.
func (s *smoke) remembered(ctx context.Context, o open) error {
	after, err := s.api.list(ctx, "page_size=200")
	if err != nil {
		return err
	}
	s.equal("the same tickets are there, and as they were", told(o.before), told(after))
	return nil
}

func told(tickets []ticket) (out []string) {
	for _, t := range tickets {
		line := fmt.Sprintf("%s %s", t.ID, t.State)
		if t.Done {
			line += fmt.Sprintf(" version %d callback %s", t.Version, t.Callback.State)
		}
		out = append(out, line)
	}
	return out
}

// resumed approves on the card that is shown again.
func (s *smoke) resumed(ctx context.Context, id, progress, who string, said []string) error {
	if id == "" {
		return errNotSubmitted
	}
	card, err := s.slack.card(ctx, id, 1, true)
	if err != nil {
		return err
	}
	s.contains("its card is shown again, with what was decided before", card.Text, "Approval needed", progress, "[Approve]")
	if err := s.press(ctx, who, card); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: id, state: "succeeded", calls: 1, cards: 1, said: said})
	if err != nil {
		return err
	}
	last := slices.IndexFunc(end.Decisions, func(d decision) bool { return d.Person == who })
	s.check(last == len(end.Decisions)-1, "the last decision is %s's", who)
	return nil
}
