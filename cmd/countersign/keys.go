package main

import (
	"encoding/json"
	"fmt"

	"countersign/policy"
)

type keysCmd struct {
	New newKeyCmd `cmd:"" help:"Make an API key. The key is printed once and kept nowhere; its hash goes into the configuration as key_sha256."`
}

type newKeyCmd struct {
	Person bool `help:"Make a personal key, with which somebody decides over the API; without it, a caller's."`
	JSON   bool `help:"Print one JSON line."`
}

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
