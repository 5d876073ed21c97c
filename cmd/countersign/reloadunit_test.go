package main

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func rulesNamed(names ...string) (out []policy.Rule) {
	for _, n := range names {
		out = append(out, policy.Rule{Name: n, Action: approvals.ActionAllow})
	}
	return out
}

func TestChangesAreSaidByName(t *testing.T) {
	t.Parallel()
	before := &policy.Config{
		Rules:  rulesNamed("a", "b", "c"),
		Groups: []policy.Group{{Name: "security", Members: []string{"ana"}}},
		People: []approvals.Person{{Name: "ana"}},
	}
	after := &policy.Config{
		Rules:  rulesNamed("c", "b", "d"),
		Groups: []policy.Group{{Name: "security", Members: []string{"ana", "bo"}}},
		People: []approvals.Person{{Name: "ana"}, {Name: "bo"}},
	}
	after.Rules[1].Action = approvals.ActionDeny
	require.Equal(t, "rules added: d; rules removed: a; rules changed: b; people added: bo; groups changed: security; rules reordered",
		changesOf(before, after).String())
	require.Equal(t, "nothing that decides has changed", changesOf(before, before).String())
}

func TestChangesOfAHugePolicyAreBounded(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("rule-%d", i))
	}
	said := changesOf(&policy.Config{}, &policy.Config{Rules: rulesNamed(names...)}).String()
	require.Contains(t, said, "rule-19, and 980 more")
	require.NotContains(t, said, "rule-20,")
}

func TestEgressIsNarrowedAtOnceAndWidenedByARestartOnly(t *testing.T) {
	t.Parallel()
	one, two := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16")
	start := policy.EgressPolicy{AllowHTTP: true, AllowPrefixes: []netip.Prefix{one}, AllowPorts: []uint16{8080, 9090}}
	next := policy.EgressPolicy{AllowHTTP: true, AllowLoopback: true, AllowPrefixes: []netip.Prefix{one, two}, AllowPorts: []uint16{9090}}
	require.Equal(t, policy.EgressPolicy{AllowHTTP: true, AllowPrefixes: []netip.Prefix{one}, AllowPorts: []uint16{9090}}, narrowed(start, next))
	config := func(p policy.EgressPolicy) *policy.Config { return &policy.Config{Egress: policy.Egress{Callbacks: p}} }
	require.Equal(t, []string{"egress.callbacks"}, needRestart(config(start), config(next)))
	require.Empty(t, needRestart(config(start), config(policy.EgressPolicy{})))

	proxied := next
	proxied.Proxy = &url.URL{Scheme: "http", Host: "egress:3128"}
	require.Nil(t, narrowed(start, proxied).Proxy, "the proxy is that of the start")
	require.Equal(t, proxied.Proxy, narrowed(proxied, start).Proxy)
	require.Equal(t, []string{"egress.callbacks"}, needRestart(config(next), config(proxied)))
	require.Empty(t, needRestart(config(proxied), config(proxied)))
}

func TestFingerprintIsOfEverythingThatIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put("a.yaml", "one")
	file, whole := fingerprintOf(filepath.Join(dir, "a.yaml")), fingerprintOf(dir)
	require.Equal(t, whole, fingerprintOf(dir))
	put("README", "not read")
	require.Equal(t, whole, fingerprintOf(dir))
	put("b.yml", "it would be refused")
	require.NotEqual(t, whole, fingerprintOf(dir))
	require.NoError(t, os.Remove(filepath.Join(dir, "b.yml")))
	require.Equal(t, whole, fingerprintOf(dir))
	put("a.yaml", "two")
	require.NotEqual(t, whole, fingerprintOf(dir))
	require.NotEqual(t, file, fingerprintOf(filepath.Join(dir, "a.yaml")))

	pipe := filepath.Join(dir, "pipe.yaml")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.Equal(t, fingerprintOf(pipe), fingerprintOf(pipe), "it does not wait for a writer")
	require.Equal(t, fingerprintOf("/nowhere"), fingerprintOf("/nowhere"))
	require.NotEqual(t, fingerprintOf("/nowhere"), fingerprintOf("/elsewhere"))
}

func TestReceiversAreToldWhereToReadAboutWhoCallsThem(t *testing.T) {
	t.Parallel()
	for public, want := range map[string]string{
		"https://gate.example.com": "https://gate.example.com/openapi.yaml", "https://example.com/gäte": "https://example.com/g%C3%A4te/openapi.yaml", "": "",
	} {
		require.Equal(t, want, documentation(policy.Server{PublicURL: public}))
	}
}

func TestChangesOfSigningKeysAreSaidByTheirPublicHalves(t *testing.T) {
	t.Parallel()
	key := func(c string) string {
		return "whsk_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, 32)))
	}
	env := servingEnv("postgres://nowhere.example.com/x")
	env["ONE"], env["TWO"] = key("1"), key("2")
	load := func(keys string) *policy.Config {
		c, err := policy.Parse("c.yaml", []byte(written{upstream: nowhere, origin: nowhere, slack: nowhere}.yaml()+"signing: {keys: ["+keys+"]}\n"), func(name string) string { return env[name] })
		require.NoError(t, err)
		return c
	}
	said := changesOf(load("env:ONE"), load("env:TWO, env:ONE")).String()
	require.Regexp(t, `signing keys added: whpk_[A-Za-z0-9+/]+=$`, said)
	require.NotContains(t, said, "whsk_")
	require.NotContains(t, said, "removed")
}
