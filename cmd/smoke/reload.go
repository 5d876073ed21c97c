package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
)

// moreRules is appended to the demo policy, whose last section is its rules.
const moreRules = `
  - name: touch
    match: {upstream: billing, methods: [PUT], path: "/customers/{id}"}
    action: allow
`

// reloaded changes the policy's file under dev and expects it to be in force by itself.
func (s *smoke) reloaded(ctx context.Context) error {
	touch := s.with(submission{Upstream: "billing", Method: "PUT", Path: "/customers/42", Justification: "touch it"})
	_, t, err := s.api.submit(ctx, touch)
	if err != nil {
		return err
	}
	s.equal("no rule matches: denied", "denied denied_by_policy", t.State+" "+t.errorCode())
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "denied"}); err != nil {
		return err
	}
	if err := s.append(moreRules); err != nil {
		return err
	}
	if err := s.explained(ctx, touch, "allow"); err != nil {
		return err
	}
	_, t, err = s.api.submit(ctx, touch)
	if err != nil {
		return err
	}
	s.equal("the new rule is in force without a restart", "approved by touch", t.State+" by "+t.Rule)
	_, err = s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1})
	return err
}

// explained waits until the policy in force says so of a call.
func (s *smoke) explained(ctx context.Context, call submission, action string) error {
	var said explanation
	err := until(ctx, showLimit, func(ctx context.Context) (ok bool, err error) {
		said, err = fetch[explanation](ctx, s.api.http, http.MethodPost, s.api.base+"/v1/explain",
			map[string]string{"upstream": call.Upstream, "method": call.Method, "path": call.Path}, "Authorization", "Bearer "+s.api.key)
		return said.Action == action, err
	})
	if err != nil {
		return fmt.Errorf("wait for %s %s to be explained as %s (it is %+v): %w", call.Method, call.Path, action, said, err)
	}
	s.check(true, "explain says so, too: %s by %s", said.Action, said.Rule)
	return nil
}

type explanation struct {
	Action string `json:"action"`
	Rule   string `json:"rule"`
}

// append adds to the demo policy.
func (s *smoke) append(text string) error {
	f, err := os.OpenFile(s.dev.hello.Config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the demo policy: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("change the demo policy: %w", err)
	}
	return f.Close()
}
