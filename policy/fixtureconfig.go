package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// LoadUnresolved reads a configuration as [Load] does, but looks up no reference: what
// stands behind env:NAME and file:PATH is a placeholder of the right form, made from the
// reference itself. It is for commands that only judge the policy: they run where no
// secret is, and touch none where one is. Digests are those of the configuration itself.
func LoadUnresolved(path string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	d := newUnresolved()
	if info.IsDir() {
		return d.dirUnresolved(path)
	}
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return d.oneUnresolved(path, content)
}

// ParseUnresolved reads a configuration from memory, otherwise as [LoadUnresolved].
func ParseUnresolved(name string, src []byte) (*Config, error) {
	return newUnresolved().oneUnresolved(name, src)
}

// unresolved decodes a configuration whose references have been turned into those of
// placeholders.
type unresolved struct {
	*decoder
	// values by the name of the variable that stands for a reference, and that reference.
	values, refs map[string]string
}

func newUnresolved() *unresolved {
	u := &unresolved{values: make(map[string]string), refs: make(map[string]string)}
	u.decoder = newDecoder(func(name string) string { return u.values[name] })
	u.blind = true
	return u
}

func (u *unresolved) oneUnresolved(name string, content []byte) (*Config, error) {
	u.read(name, content)
	u.whole = pos{src: u.src, line: 1, col: 1}
	u.restore()
	return u.finish(map[string]int{name: 0})
}

func (u *unresolved) dirUnresolved(path string) (*Config, error) {
	files, err := u.yamlFiles(path)
	if err != nil {
		return nil, err
	}
	order := make(map[string]int)
	for i, name := range files {
		content, err := readFile(name)
		if err != nil {
			return nil, err
		}
		order[name] = i + 1
		u.read(name, content)
	}
	u.whole = pos{src: newSource(path, "")}
	u.restore()
	return u.finish(order)
}

func (u *unresolved) read(name string, content []byte) {
	text := plainText(content)
	u.src = newSource(name, text)
	body, ok := u.parse(text, len(content))
	switch {
	case !ok:
		u.unread = true
	case body != nil:
		u.stand(bare(body), "")
		u.top(bare(body))
	}
}

// forms are what the fields that hold references accept, as functions of a digest of the
// reference, so that different references stand for different values.
var forms = map[string]func(sum [32]byte) string{
	"key_sha256":          hashText,
	"sha256":              hashText,
	"secret":              placeholderText,
	"secrets":             placeholderText,
	"value":               placeholderText,
	"ca":                  placeholderText,
	"certificate":         placeholderText,
	"key":                 placeholderText,
	"keys":                placeholderText,
	"keyset":              placeholderText,
	"proxy_authorization": placeholderText,
	"bot_token":           placeholderText,
	"signing_secrets":     placeholderText,
	"app_token":           placeholderText,
	"client_secret":       placeholderText,
	"refresh_token":       placeholderText,
	"url":                 func([32]byte) string { return "postgres://placeholder" },
}

func hashText(sum [32]byte) string { return hex.EncodeToString(sum[:]) }

func placeholderText(sum [32]byte) string { return "placeholder-" + hex.EncodeToString(sum[:8]) }

// stand lets a placeholder stand for every reference below a node. Key is the field whose
// value the node is.
func (u *unresolved) stand(n ast.Node, key string) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, e := range n.Values {
			if name, ok := e.Key.(*ast.StringNode); ok {
				u.stand(bare(e.Value), name.Value)
			}
		}
	case *ast.SequenceNode:
		for _, item := range n.Values {
			u.stand(bare(item), key)
		}
	case *ast.StringNode:
		if form := forms[key]; form != nil && reference(n.Value) {
			u.replace(n, key, form)
		}
	}
}

// reference reports whether a text is a well-formed reference. What is not is left for the
// decoder to complain about.
func reference(text string) bool {
	name, env := strings.CutPrefix(text, "env:")
	path, file := strings.CutPrefix(text, "file:")
	return env && envName.MatchString(name) || file && path != ""
}

func (u *unresolved) replace(n *ast.StringNode, key string, form func([32]byte) string) {
	sum := sha256.Sum256([]byte(n.Value))
	name := "PLACEHOLDER_" + key + "_" + hex.EncodeToString(sum[:])
	u.values[name], u.refs["env:"+name] = form(sum), n.Value
	n.Value = "env:" + name
	if tk := n.GetToken(); tk != nil {
		tk.Value = n.Value
	}
}

// restore gives the secrets their references back, which digests are made of.
func (u *unresolved) restore() {
	draft := &u.draft
	all := []*Secret{
		&draft.database.URL, &draft.slack.BotToken, &draft.slack.AppToken, &draft.slack.ClientSecret, &draft.slack.RefreshToken,
		&draft.encryption.Keyset,
	}
	for i := range draft.slack.SigningSecrets {
		all = append(all, &draft.slack.SigningSecrets[i])
	}
	for i := range draft.signing.Keys {
		all = append(all, &draft.signing.Keys[i])
	}
	credentials := func(list []Credential) {
		for i := range list {
			all = append(all, &list[i].Value)
		}
	}
	for i := range draft.callers {
		for j := range draft.callers[i].secrets {
			all = append(all, &draft.callers[i].secrets[j].Secret)
		}
		for j := range draft.callers[i].endpoints {
			e := &draft.callers[i].endpoints[j]
			all = append(all, &e.CA, &e.Certificate, &e.CertificateKey)
			credentials(e.Headers)
		}
	}
	for i := range draft.upstreams {
		up := &draft.upstreams[i]
		all = append(all, &up.CA, &up.Certificate, &up.CertificateKey, &up.ProxyAuthorization)
		credentials(up.Credentials)
	}
	for _, s := range all {
		if ref, ok := u.refs[s.ref]; ok {
			s.ref = ref
		}
	}
}
