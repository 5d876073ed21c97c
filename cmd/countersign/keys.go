package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"countersign/envelope"
	"countersign/policy"
)

type keysCmd struct {
	New        newKeyCmd        `cmd:"" help:"Make an API key. The key is printed once and kept nowhere; its hash goes into the configuration as key_sha256."`
	Hash       hashKeyCmd       `cmd:"" help:"Print the hash of a key, which is what the configuration takes."`
	Check      checkKeyCmd      `cmd:"" help:"Say whose key it is by a configuration, and what it is good for."`
	Callback   callbackKeyCmd   `cmd:"" help:"Make a secret (whsec_) that callbacks are signed with."`
	Signing    signingKeyCmd    `cmd:"" help:"Make a pair of keys (whsk_, whpk_) for ed25519 signatures of callbacks."`
	Encryption encryptionKeyCmd `cmd:"" help:"Make the keyset that results and callbacks are stored under, or give one a new key."`
}

type newKeyCmd struct {
	Person bool `help:"Make a personal key, with which somebody decides over the API; without it, a caller's."`
	JSON   bool `help:"Print one JSON line."`
}

// Run makes a key.
func (c newKeyCmd) Run(env environment) error {
	generate, holder, section := policy.NewKey, "the caller", "callers"
	if c.Person {
		generate, holder, section = policy.NewPersonKey, "the person", "people"
	}
	key, hash, err := generate()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{"key": key, "key_sha256": hash})
	}
	_, err = fmt.Fprintf(env.stdout, `key         %s
key_sha256  %s

Give the key to %s; it is not kept and cannot be shown again. Put the hash, which is
no secret, into the configuration:

  %s:
    - name: …
      key_sha256: %s
`, key, hash, holder, section, hash)
	return err
}

// keyFlags say where a key is read from: never from the command line, which everybody on
// the machine can read.
type keyFlags struct {
	KeyFile string `help:"File with the key; without it $COUNTERSIGN_KEY, or else standard input." placeholder:"FILE" type:"path"`
}

func (f keyFlags) read(env environment) (string, error) {
	text := env.getenv("COUNTERSIGN_KEY")
	if f.KeyFile != "" || text == "" {
		name := f.KeyFile
		if name == "" {
			name = "-"
		}
		var err error
		if text, err = readSmall(env, name); err != nil {
			return "", usageError{fmt.Errorf("read the key: %w", err)}
		}
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", usageError{errors.New("there is no key: give it on standard input, with --key-file FILE, or in COUNTERSIGN_KEY")}
	}
	return text, nil
}

type hashKeyCmd struct {
	keyFlags
}

// Run prints the hash of a key.
func (c hashKeyCmd) Run(env environment) error {
	key, err := c.read(env)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(key, "csk_") && !strings.HasPrefix(key, "csp_") {
		return usageError{errors.New("that is no key: keys begin with csk_ or csp_")}
	}
	sum := sha256.Sum256([]byte(key))
	_, err = fmt.Fprintln(env.stdout, hex.EncodeToString(sum[:]))
	return err
}

type checkKeyCmd struct {
	keyFlags
	policyFlags
	JSON bool `help:"Print one JSON line."`
}

// checkedKey is what is known of a key.
type checkedKey struct {
	Kind      string   `json:"kind"` // caller or person
	Name      string   `json:"name"`
	Key       string   `json:"key,omitempty"`
	Expires   string   `json:"expires,omitempty"`
	Scopes    []string `json:"scopes,omitempty"`
	Upstreams []string `json:"upstreams,omitempty"`
	Methods   []string `json:"methods,omitempty"`
	Networks  []string `json:"networks,omitempty"`
}

// Run says whose key it is. A key that nobody has is exit code 8, as the server would say.
func (c checkKeyCmd) Run(env environment) error {
	key, err := c.read(env)
	if err != nil {
		return err
	}
	config, err := c.load(env)
	if err != nil {
		return err
	}
	found, ok := checkKey(env, config, key)
	if !ok {
		return codedError{errors.New("nobody in that configuration has this key, or it has expired"), exitNotAllowed}
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(found)
	}
	rows := [][]string{{found.Kind, found.Name}}
	for _, row := range [][2]string{
		{"key", found.Key},
		{"expires", found.Expires},
		{"scopes", strings.Join(found.Scopes, ", ")},
		{"upstreams", strings.Join(found.Upstreams, ", ")},
		{"methods", strings.Join(found.Methods, ", ")},
		{"networks", strings.Join(found.Networks, ", ")},
	} {
		if row[1] != "" {
			rows = append(rows, row[:])
		}
	}
	_, err = fmt.Fprint(env.stdout, columns("", rows, nil))
	return err
}

func checkKey(env environment, config *policy.Config, key string) (checkedKey, bool) {
	if p, ok := config.PersonByKey(key, env.now()); ok {
		return checkedKey{Kind: "person", Name: p.Name}, true
	}
	caller, k, ok := config.CallerByKey(key, env.now())
	if !ok {
		return checkedKey{}, false
	}
	out := checkedKey{Kind: "caller", Name: caller.Name, Key: k.Name, Scopes: k.Scopes, Upstreams: k.Upstreams, Methods: k.Methods}
	if !k.Expires.IsZero() {
		out.Expires = k.Expires.UTC().Format("2006-01-02T15:04:05Z")
	}
	for _, n := range k.Networks {
		out.Networks = append(out.Networks, n.String())
	}
	return out, true
}

type callbackKeyCmd struct{}

// Run makes a secret.
func (callbackKeyCmd) Run(env environment) error {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	_, err := fmt.Fprintln(env.stdout, "whsec_"+base64.StdEncoding.EncodeToString(random[:]))
	return err
}

type signingKeyCmd struct {
	JSON bool `help:"Print one JSON line."`
}

// Run makes a pair of keys.
func (c signingKeyCmd) Run(env environment) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	secret, shown := "whsk_"+base64.StdEncoding.EncodeToString(private), "whpk_"+base64.StdEncoding.EncodeToString(public)
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{"private": secret, "public": shown})
	}
	_, err = fmt.Fprintf(env.stdout, `private  %s
public   %s

Keep the private key where the service alone can read it, and name it in the configuration:

  signing: {keys: [file:/run/secrets/signing]}

Receivers verify with the public one, which is no secret and is published at /.well-known/jwks.json.
`, secret, shown)
	return err
}

type encryptionKeyCmd struct {
	Rotate string `help:"Keyset to be given a new key, which is used from then on; the old ones still open what they sealed." placeholder:"FILE" type:"path"`
}

// Help is shown below the flags.
func (encryptionKeyCmd) Help() string {
	return `Makes a keyset, or, with --rotate, adds a key to one:

  countersign keys encryption > keyset.json

and in the configuration:  encryption: {keyset: file:/run/secrets/keyset.json}

Keep it apart from the database and its backups. What was stored under a keyset that is lost is lost.`
}

// Run makes a keyset.
func (c encryptionKeyCmd) Run(env environment) error {
	var text string
	var err error
	if c.Rotate == "" {
		text, err = envelope.NewKeyset()
	} else if text, err = readSmall(env, c.Rotate); err == nil {
		text, err = envelope.Rotate(text)
	}
	if err != nil {
		return fmt.Errorf("make a keyset: %w", err)
	}
	_, err = fmt.Fprintln(env.stdout, text)
	return err
}
