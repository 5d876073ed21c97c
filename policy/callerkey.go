package policy

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// maxKeys bounds the keys of one caller or person, maxNetworks those a key may be used from.
const (
	maxKeys     = 20
	maxNetworks = 100
)

// keyDraft is an API key of a caller or a person.
type keyDraft struct {
	CallerKey
	at        pos // of the hash; zero when there is no usable one
	name      word
	upstreams []word
}

// apiKeys decodes a list of keys. Those of people have no limits: people decide, and what
// they may decide on is said elsewhere.
func (d *decoder) apiKeys(dst *[]keyDraft, limited bool) field {
	return d.capped("keys", maxKeys, func(n ast.Node) {
		var k keyDraft
		var expires word
		var scopes, methods, networks []word
		known := fields{"name": d.name(&k.name), "sha256": d.keyHash(&k.Hash, &k.at), "expires": d.word(&expires)}
		if limited {
			maps.Copy(known, fields{
				"scopes":    d.words("scopes", &scopes),
				"networks":  d.words("networks", &networks),
				"upstreams": d.words("upstreams", &k.upstreams),
				"methods":   d.words("methods", &methods),
			})
		}
		d.object(n, "a key", known, "name", "sha256")
		k.Name, k.Upstreams, k.Methods = k.name.text, texts(k.upstreams), d.methods(methods)
		if expires.text != "" {
			k.Expires = d.instant(expires)
		}
		k.Scopes = d.scopes(scopes)
		d.networks(&k, networks)
		*dst = append(*dst, k)
	})
}

func (d *decoder) scopes(words []word) []string {
	var out []string
	for _, w := range words {
		if !slices.Contains(Scopes(), w.text) {
			d.problem(w.at, didYouMean(w.text, Scopes()), "unknown scope %q", shorten(w.text))
			continue
		}
		out = append(out, w.text)
	}
	return out
}

// networks decodes where a key may be used from. However wide, they only take away.
func (d *decoder) networks(k *keyDraft, words []word) {
	for i, w := range words {
		if i == maxNetworks {
			d.problem(w.at, "", "networks has %d items, at most %d are allowed", len(words), maxNetworks)
			return
		}
		if p, ok := d.network(w); ok {
			k.Networks = append(k.Networks, p)
		}
	}
}

// oneKey decodes the shorthand for one key without limits.
func (d *decoder) oneKey(dst *[]keyDraft) field {
	return func(n ast.Node) {
		var k keyDraft
		if d.keyHash(&k.Hash, &k.at)(n); k.at.src != nil {
			*dst = append(*dst, k)
		}
	}
}

// checkOneWay reports keys in both ways.
func (d *decoder) checkOneWay(n ast.Node) {
	if m, ok := n.(*ast.MappingNode); ok && hasField(m, "key_sha256") && hasField(m, "keys") {
		d.problem(d.at(n), "keep keys", "there is both key_sha256 and keys")
	}
}

// checkKeyNames reports keys of one holder that have one name.
func (d *decoder) checkKeyNames(keys []keyDraft) {
	names := registry{}
	for _, k := range keys {
		d.add(names, "the key", k.name)
	}
}
