package main

import (
	"context"
	"slices"

	"countersign/egress"
	"countersign/identity"
	"countersign/policy"
)

// identify makes what says who holds a token of an identity provider. The providers are
// those of the configuration in force; while there are none, every token is nobody's.
func (s *service) identify(current func() *policy.Config) (func(context.Context, string) (identity.Identity, error), error) {
	verifier, err := identity.New(identity.Config{
		HTTP: egress.LoginClient(egress.LoginConfig{
			Issuers: func() []string { return issuers(current()) },
			// What the operator runs on this very machine is for trying things out.
			AllowLoopback: func() bool { return slices.ContainsFunc(issuers(current()), onLoopback) },
		}),
		Logins: func() []identity.Login { return logins(current()) },
		Now:    s.cfg.now,
	})
	if err != nil {
		return nil, err
	}
	return verifier.Verify, nil
}

func logins(config *policy.Config) []identity.Login {
	var out []identity.Login
	for _, l := range config.Logins() {
		out = append(out, identity.Login{Issuer: l.Issuer, Audience: l.Audience})
	}
	return out
}

func issuers(config *policy.Config) []string {
	var out []string
	for _, l := range config.Logins() {
		out = append(out, l.Issuer)
	}
	return out
}
