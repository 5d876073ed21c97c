package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// nextID returns an id nobody had before. Ids follow from the order of calls alone, so a
// test that does the same things sees the same ids; the lock is held.
func (s *Server) nextID(prefix string) string {
	return prefix + strings.ToUpper(base32.StdEncoding.EncodeToString(s.digest("id"))[:10])
}

// nextTrigger returns a trigger_id as Slack spells them.
func (s *Server) nextTrigger() string {
	d := s.digest("trigger")
	return fmt.Sprintf("%d.%d.%s", 10_000_000_000+s.counter, 474_920_888, hex.EncodeToString(d[:16]))
}

// digest returns 32 unguessable bytes that depend on the secret and the count of ids.
func (s *Server) digest(purpose string) []byte {
	s.counter++
	mac := hmac.New(sha256.New, []byte(string(s.cfg.SigningSecret)))
	_, _ = fmt.Fprintf(mac, "%s:%s:%d", purpose, s.cfg.TeamID, s.counter)
	return mac.Sum(nil)
}

// Sign returns the headers that make body an authentic request from Slack sent at the given
// time. Receivers compare that time with the wall clock.
func (s *Server) Sign(body []byte, at time.Time) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	s.mu.Lock()
	secret := string(s.signing)
	s.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("v0:" + stamp + ":"))
	_, _ = mac.Write(body)
	h := http.Header{}
	h.Set("X-Slack-Request-Timestamp", stamp)
	h.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return h
}
