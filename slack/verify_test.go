package slack_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack"
	"countersign/slack/emulator"
)

const signingSecret = "emulator-signing-secret"

func verifier(t *testing.T, now time.Time, secrets ...slack.Secret) *slack.Verifier {
	t.Helper()
	v, err := slack.NewVerifier(slack.VerifierConfig{SigningSecrets: secrets, Now: func() time.Time { return now }})
	require.NoError(t, err)
	return v
}

// captured is a request as Slack signs it at start.
func captured(secret string) (http.Header, []byte) {
	raw := []byte("payload=%7B%22type%22%3A%22block_actions%22%7D")
	return emulator.New(emulator.Config{SigningSecret: emulator.Secret(secret)}).Sign(raw, start), raw
}

func TestVerifyAcceptsSlacksDocumentedExample(t *testing.T) {
	t.Parallel()
	raw := []byte("token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
		"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands" +
		"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c")
	header := http.Header{}
	header.Set("X-Slack-Request-Timestamp", "1531420618")
	header.Set("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503")
	v := verifier(t, time.Unix(1531420618, 0), "8f742231b10e8888abcd99yyyzzz85a5")
	require.NoError(t, v.Verify(header, raw))
}

func TestVerifyRefusesABodyWithAnyByteChanged(t *testing.T) {
	t.Parallel()
	header, raw := captured(signingSecret)
	v := verifier(t, start, signingSecret)
	require.NoError(t, v.Verify(header, raw))
	for i := range raw {
		for _, flip := range []byte{0x01, 0x20, 0x80, 0xff} {
			forged := append([]byte{}, raw...)
			forged[i] ^= flip
			require.ErrorIs(t, v.Verify(header, forged), slack.ErrUnauthentic, "byte %d", i)
		}
	}
	require.ErrorIs(t, v.Verify(header, append(raw, '&')), slack.ErrUnauthentic)
	require.ErrorIs(t, v.Verify(header, raw[:len(raw)-1]), slack.ErrUnauthentic)
	require.ErrorIs(t, v.Verify(header, nil), slack.ErrUnauthentic)
}

func TestVerifyRefusesAnyChangedCharacterOfItsHeaders(t *testing.T) {
	t.Parallel()
	v := verifier(t, start, signingSecret)
	for _, name := range []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"} {
		header, raw := captured(signingSecret)
		value := header.Get(name)
		for i := range value {
			forged := []byte(value)
			forged[i] ^= 1
			header.Set(name, string(forged))
			require.ErrorIs(t, v.Verify(header, raw), slack.ErrUnauthentic, "%s %d", name, i)
		}
	}
}

func TestVerifyAcceptsFiveMinutesEitherWayAndNoMore(t *testing.T) {
	t.Parallel()
	header, raw := captured(signingSecret)
	for seconds, ok := range map[int]bool{-301: false, -300: true, -299: true, 0: true, 299: true, 300: true, 301: false} {
		err := verifier(t, start.Add(time.Duration(seconds)*time.Second), signingSecret).Verify(header, raw)
		require.Equal(t, ok, err == nil, "%d s: %v", seconds, err)
	}
	require.ErrorIs(t, verifier(t, start.Add(300*time.Second+time.Nanosecond), signingSecret).Verify(header, raw), slack.ErrUnauthentic)
}

func TestVerifyWantsBothHeadersExactlyOnce(t *testing.T) {
	t.Parallel()
	v := verifier(t, start, signingSecret)
	for _, name := range []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"} {
		header, raw := captured(signingSecret)
		header.Add(name, header.Get(name))
		require.ErrorIs(t, v.Verify(header, raw), slack.ErrUnauthentic, "%s twice", name)
		header.Del(name)
		require.ErrorIs(t, v.Verify(header, raw), slack.ErrUnauthentic, "%s missing", name)
		header.Set(name, "")
		require.ErrorIs(t, v.Verify(header, raw), slack.ErrUnauthentic, "%s empty", name)
	}
}

func TestVerifyTakesPlainDigitsOnlyAsATimestamp(t *testing.T) {
	t.Parallel()
	raw := []byte("x")
	at := fmt.Sprint(start.Unix())
	for _, stamp := range []string{"+" + at, "-" + at, " " + at, at + " ", "0x5f", at + ".0", at + "e0", strings.Repeat("9", 30), "０", "", "0"} {
		header := emulator.New(emulator.Config{}).Sign(raw, start)
		header.Set("X-Slack-Request-Timestamp", stamp)
		require.ErrorIs(t, verifier(t, start, signingSecret).Verify(header, raw), slack.ErrUnauthentic, stamp)
	}
}

func TestVerifyAcceptsEitherSecretDuringRotation(t *testing.T) {
	t.Parallel()
	both := verifier(t, start, "new", "old")
	for secret, ok := range map[string]bool{"new": true, "old": true, "older": false} {
		header, raw := captured(secret)
		require.Equal(t, ok, both.Verify(header, raw) == nil, secret)
	}
}

func TestAVerifierNeedsOneOrTwoRealSecretsAndAClock(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return start }
	for _, secrets := range [][]slack.Secret{nil, {""}, {"a", ""}, {"a", "b", "c"}} {
		_, err := slack.NewVerifier(slack.VerifierConfig{SigningSecrets: secrets, Now: now})
		require.Error(t, err)
	}
	_, err := slack.NewVerifier(slack.VerifierConfig{SigningSecrets: []slack.Secret{"a"}})
	require.Error(t, err)
}

func TestReplayKeyTellsRequestsApart(t *testing.T) {
	t.Parallel()
	one, _ := captured("a")
	two, _ := captured("b")
	require.Regexp(t, `^[0-9a-f]{64}$`, slack.ReplayKey(one))
	require.Equal(t, slack.ReplayKey(one), slack.ReplayKey(one.Clone()))
	require.NotEqual(t, slack.ReplayKey(one), slack.ReplayKey(two))
	later := one.Clone()
	later.Set("X-Slack-Request-Timestamp", "1")
	require.NotEqual(t, slack.ReplayKey(one), slack.ReplayKey(later))
}

func TestSecretsNeverShow(t *testing.T) {
	t.Parallel()
	const canary = slack.Secret("xoxb-canary")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("token", canary))
	coded, err := json.Marshal(map[string]any{"token": canary, "cfg": slack.Config{Token: canary}.Token})
	require.NoError(t, err)
	shown := log.String() + string(coded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %v"} {
		shown += fmt.Sprintf(verb, canary) + fmt.Sprintf(verb, struct{ S slack.Secret }{canary}) + fmt.Sprintf(verb, []slack.Secret{canary})
	}
	v := verifier(t, start, canary)
	shown += fmt.Sprintf("%v %+v %#v %s", v, v, *v, *v)
	require.NotContains(t, shown, "canary")
	require.NotContains(t, shown, "78 6f")
	require.NotContains(t, shown, "786f7862")
	require.Contains(t, shown, "***")
}

// FuzzSignatureHeader holds that nothing but the right signature over the right bytes is
// accepted, whatever its headers look like.
func FuzzSignatureHeader(f *testing.F) {
	header, raw := captured(signingSecret)
	good, at := header.Get("X-Slack-Signature"), header.Get("X-Slack-Request-Timestamp")
	f.Add(good, at, raw)
	f.Add(strings.ToUpper(good), at, raw)
	f.Add("v0="+strings.Repeat("0", 64), at, raw)
	f.Add(good[3:], at, raw)
	f.Add("v1"+good[2:], at, raw)
	f.Add(good+","+good, at, raw)
	f.Add(good, " "+at, raw)
	f.Add("", "", []byte(nil))
	f.Fuzz(func(t *testing.T, signature, stamp string, body []byte) {
		forged := http.Header{"X-Slack-Signature": {signature}, "X-Slack-Request-Timestamp": {stamp}}
		err := verifier(t, start, signingSecret).Verify(forged, body)
		if signature == good && stamp == at && string(body) == string(raw) {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, slack.ErrUnauthentic)
		require.NotContains(t, err.Error(), signingSecret)
	})
}
