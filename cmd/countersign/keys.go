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
	JSON bool `help:"Print one JSON line."`
}

func (c newKeyCmd) Run(env environment) error {
	key, hash, err := policy.NewKey()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{"key": key, "key_sha256": hash})
	}
	_, err = fmt.Fprintf(env.stdout, `key         %s
key_sha256  %s

Give the key to the caller; it is not kept and cannot be shown again. Put the hash, which is
no secret, into the configuration:

  callers:
    - name: …
      key_sha256: %s
`, key, hash, hash)
	return err
}
