package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"countersign/policy"
)

// devSecrets are the keys of the demo, made at the first start and kept beside its data,
// so that a second start speaks with the same ones.
type devSecrets struct {
	APIKey         string `json:"api_key"`
	PersonKey      string `json:"person_key"` // of dev
	CallbackSecret string `json:"callback_secret"`
	BotToken       string `json:"slack_bot_token"`
	SigningSecret  string `json:"slack_signing_secret"`
	UpstreamToken  string `json:"upstream_token"`
	// Ports are the free ones that --port 0 found, in use again at the next start.
	Ports [4]int `json:"ports"`
}

// loadDevSecrets reads the demo's keys, or makes new ones the first time and for a fresh
// start.
func loadDevSecrets(path string, fresh bool) (devSecrets, error) {
	if !fresh {
		s, err := readDevSecrets(path)
		if err == nil && s.PersonKey == "" { // made before people had keys
			return s, s.addPersonKey(path)
		}
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return s, err
		}
	}
	return makeDevSecrets(path)
}

// addPersonKey makes the key of dev and keeps it.
func (s *devSecrets) addPersonKey(path string) error {
	key, _, err := policy.NewPersonKey()
	if err != nil {
		return fmt.Errorf("make personal key: %w", err)
	}
	s.PersonKey = key
	return writeDevSecrets(path, *s)
}

func readDevSecrets(path string) (devSecrets, error) {
	var s devSecrets
	b, err := os.ReadFile(path) //nolint:gosec // our own file in the data directory
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil && (s.APIKey == "" || s.CallbackSecret == "" || s.SigningSecret == "" || s.UpstreamToken == "") {
		err = errors.New("it is not a file of countersign dev")
	}
	if err != nil {
		return s, fmt.Errorf("read %s (--fresh makes new keys): %w", path, err)
	}
	return s, nil
}

func makeDevSecrets(path string) (devSecrets, error) {
	key, _, err := policy.NewKey()
	if err != nil {
		return devSecrets{}, fmt.Errorf("make API key: %w", err)
	}
	s := devSecrets{
		APIKey: key, CallbackSecret: "whsec_" + base64.StdEncoding.EncodeToString(random(32)),
		BotToken: "xoxb-dev-" + hex.EncodeToString(random(12)), SigningSecret: hex.EncodeToString(random(16)),
		UpstreamToken: hex.EncodeToString(random(16)),
	}
	return s, s.addPersonKey(path)
}

func writeDevSecrets(path string, s devSecrets) error {
	b, err := json.MarshalIndent(s, "", "  ") //nolint:gosec // the demo's own keys, written to a file only its owner can read
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the demo's keys: %w", err)
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// getenv answers the references of the demo configuration.
func (s devSecrets) getenv(name string) string {
	hash := func(key string) string {
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:])
	}
	return map[string]string{
		"SLACK_BOT_TOKEN": s.BotToken, "SLACK_SIGNING_SECRET": s.SigningSecret,
		"DEMO_KEY_SHA256": hash(s.APIKey), "DEMO_PERSON_KEY_SHA256": hash(s.PersonKey), "DEMO_CALLBACK_SECRET": s.CallbackSecret,
		"BILLING_TOKEN": "Bearer " + s.UpstreamToken,
	}[name]
}
