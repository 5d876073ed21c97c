package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles bounds the files of a directory.
const maxFiles = 256

// Load reads a configuration from a file, or from the *.yaml files of a directory, in the
// order of their names, as if they were one. Files whose names begin with a dot are passed
// over. Getenv resolves env: references; nil knows none. The error is [Problems] when
// something is wrong with what is written, and wraps the cause when it cannot be read.
func Load(path string, getenv func(string) string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	d := newDecoder(getenv)
	if !info.IsDir() {
		content, err := readFile(path)
		if err != nil {
			return nil, err
		}
		return d.one(path, content)
	}
	return d.dir(path)
}

// Parse reads a configuration from memory. Name is what problems call it, and its folder
// is what relative file: references start from. Otherwise as [Load].
func Parse(name string, src []byte, getenv func(string) string) (*Config, error) {
	return newDecoder(getenv).one(name, src)
}

func newDecoder(getenv func(string) string) *decoder {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	d := &decoder{getenv: getenv, sections: make(map[string]bool), first: make(map[string]pos)}
	d.draft.server.Drain, d.draft.server.MaxBody = defaultDrain, defaultBody
	return d
}

func (d *decoder) one(name string, content []byte) (*Config, error) {
	d.file(name, content)
	d.whole = pos{src: d.src, line: 1, col: 1}
	return d.finish(map[string]int{name: 0})
}

func (d *decoder) dir(path string) (*Config, error) {
	names, err := d.yamlFiles(path)
	if err != nil {
		return nil, err
	}
	order := make(map[string]int)
	for i, name := range names {
		content, err := readFile(name)
		if err != nil {
			return nil, err
		}
		order[name] = i + 1 // problems of the directory itself come first
		d.file(name, content)
	}
	d.whole = pos{src: newSource(path, "")}
	return d.finish(order)
}

// yamlFiles lists the files to read. One that looks as if it should be read, but will not
// be, is a problem: a rule left out in silence may be the one that denies.
func (d *decoder) yamlFiles(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		switch ext := filepath.Ext(e.Name()); {
		case strings.HasPrefix(e.Name(), "."):
		case ext == ".yaml":
			names = append(names, name)
		case strings.EqualFold(ext, ".yml") || strings.EqualFold(ext, ".yaml"):
			d.problem(pos{src: newSource(name, "")}, "rename it to .yaml", "the file would not be read")
		}
	}
	if len(names) == 0 && len(d.problems) == 0 {
		return nil, fmt.Errorf("read configuration: no *.yaml file in %s", path)
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("read configuration: more than %d files in %s", maxFiles, path)
	}
	slices.Sort(names)
	return names, nil
}

var errIrregular = errors.New("not a regular file")

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errIrregular) // a pipe could block for ever
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return content, nil
}

// finish judges the draft and makes the configuration of it.
func (d *decoder) finish(order map[string]int) (*Config, error) {
	if !d.unread {
		d.check()
	}
	if len(d.problems) > 0 {
		return nil, d.problems.ordered(order)
	}
	return d.build(), nil
}

// build turns a draft without problems into a configuration.
func (d *decoder) build() *Config {
	draft := &d.draft
	c := &Config{
		Server: draft.server, Database: draft.database, Slack: draft.slack.Slack, Egress: draft.egress,
		directory: d.directory(), rules: newRuleIndex(draft.rules),
		Operators: texts(draft.operators), Auditors: texts(draft.auditors),
		Encryption: draft.encryption, Signing: draft.signing, hours: d.groupHours(),
		byKey: make(keyIndex), callers: make(map[string]int), upstreams: make(map[string]int),
	}
	for _, l := range draft.logins {
		c.logins = append(c.logins, l.Login)
	}
	for _, p := range draft.people {
		c.People = append(c.People, p.person())
	}
	c.identities(draft.people)
	for _, g := range draft.groups {
		c.Groups = append(c.Groups, Group{Name: g.name.text, Members: texts(g.members), SlackUsergroup: g.live.text, Hours: g.hours})
	}
	for i, caller := range draft.callers {
		c.callers[caller.name.text] = i
		for _, k := range caller.keys {
			c.byKey.add(k.CallerKey, i)
		}
		c.Callers = append(c.Callers, d.buildCaller(caller))
	}
	for i, u := range draft.upstreams {
		u.Digest = u.digest()
		c.upstreams[u.name.text] = i
		c.Upstreams = append(c.Upstreams, u.Upstream)
	}
	for _, r := range draft.rules {
		c.Rules = append(c.Rules, r.Rule)
	}
	c.Digest = c.digest()
	return c
}

func (d *decoder) buildCaller(c callerDraft) Caller {
	out := Caller{
		Name: c.name.text, Owners: texts(c.owners), Upstreams: texts(c.upstreams), Limits: c.limits,
		CallbackSecrets: c.secrets, AlertChannel: c.alert.text,
	}
	for _, k := range c.keys {
		out.Keys = append(out.Keys, k.CallerKey)
	}
	for _, l := range c.logins {
		out.Logins = append(out.Logins, l.CallerLogin)
	}
	for _, e := range c.endpoints {
		out.Endpoints = append(out.Endpoints, e.Endpoint)
		out.Origins = append(out.Origins, e.Origin)
	}
	return out
}
