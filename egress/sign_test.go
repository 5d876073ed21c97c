package egress_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"countersign/egress"
)

const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of the published test vector
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody   = `{"test": 2432232314}`
	vectorTime   = 1614265330
)

func secret(tb testing.TB, text string) egress.Secret {
	tb.Helper()
	s, err := egress.ParseSecret(text)
	require.NoError(tb, err)
	return s
}

func TestSharedVectorsAreReproduced(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/standard-webhooks.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Secret, ID, Body, Expected string
		Timestamp                        int64
	}
	require.NoError(t, json.Unmarshal(text, &vectors))
	require.Len(t, vectors, 2)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			if v.Secret == "" {
				require.Equal(t, v.Expected, egress.ContentDigest([]byte(v.Body)))
				return
			}
			require.Equal(t, v.Expected, egress.Sign([]egress.Secret{secret(t, v.Secret)}, v.ID, time.Unix(v.Timestamp, 0), []byte(v.Body)))
		})
	}
}

func TestSignJoinsOneSignaturePerLiveSecretNewestFirst(t *testing.T) {
	t.Parallel()
	older, newer := secret(t, vectorSecret), secret(t, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 64)))
	at, body := time.Unix(vectorTime, 0), []byte(vectorBody)
	got := egress.Sign([]egress.Secret{newer, {}, older}, vectorID, at, body)
	require.Equal(t, egress.Sign([]egress.Secret{newer}, vectorID, at, body)+" "+egress.Sign([]egress.Secret{older}, vectorID, at, body), got)
	require.Empty(t, egress.Sign(nil, vectorID, at, body))
	require.Empty(t, egress.Sign([]egress.Secret{egress.NewSecret("short")}, vectorID, at, body))
}

func TestSignaturesAreAcceptedByTheOfficialLibrary(t *testing.T) {
	t.Parallel()
	official, err := standardwebhooks.NewWebhook(vectorSecret)
	require.NoError(t, err)
	header := http.Header{}
	header.Set(egress.HeaderID, vectorID)
	header.Set(egress.HeaderTimestamp, strconv.Itoa(vectorTime))
	header.Set(egress.HeaderSignature, egress.Sign([]egress.Secret{secret(t, vectorSecret)}, vectorID, time.Unix(vectorTime, 0), []byte(vectorBody)))
	require.NoError(t, official.VerifyIgnoringTimestamp([]byte(vectorBody), header))
}

func TestVerifyAcceptsAndRefuses(t *testing.T) {
	t.Parallel()
	good := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	bare := strings.TrimPrefix(vectorSecret, "whsec_")
	cases := []struct {
		name      string
		secrets   []string
		id        string
		timestamp string
		signature string
		late      time.Duration
		want      error
	}{
		{name: "one signature", signature: good},
		{name: "a secret without the prefix", secrets: []string{bare}, signature: good},
		{name: "several signatures and an unknown version", signature: "v2,AAAA v1,AAAA v1a,AAAA " + good},
		{name: "299 s late", signature: good, late: 299 * time.Second},
		{name: "299 s early", signature: good, late: -299 * time.Second},
		{name: "301 s late", signature: good, late: 301 * time.Second, want: egress.ErrSignatureTime},
		{name: "301 s early", signature: good, late: -301 * time.Second, want: egress.ErrSignatureTime},
		{name: "no id", id: "-", signature: good, want: egress.ErrSignatureHeaders},
		{name: "no timestamp", timestamp: "-", signature: good, want: egress.ErrSignatureHeaders},
		{name: "no signature", signature: "-", want: egress.ErrSignatureHeaders},
		{name: "blank signature", signature: " ", want: egress.ErrSignatureHeaders},
		{name: "a bare v1,", signature: "v1,", want: egress.ErrSignatureMismatch},
		{name: "a signature without version", signature: good[3:], want: egress.ErrSignatureMismatch},
		{name: "the right signature under another version", signature: "v2" + good[2:], want: egress.ErrSignatureMismatch},
		{name: "wrong signature", signature: "v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", want: egress.ErrSignatureMismatch},
		{name: "truncated signature", signature: good[:len(good)-1], want: egress.ErrSignatureMismatch},
		{name: "another id", id: "msg_x", signature: good, want: egress.ErrSignatureMismatch},
		{name: "an id with a dot", id: "msg.x", signature: good, want: egress.ErrSignatureHeaders},
		{name: "another timestamp", timestamp: "1614265331", signature: good, want: egress.ErrSignatureMismatch},
		{name: "a timestamp with a plus", timestamp: "+1614265330", signature: good, want: egress.ErrSignatureHeaders},
		{name: "a timestamp with a fraction", timestamp: "1614265330.0", signature: good, want: egress.ErrSignatureHeaders},
		{name: "a timestamp that is no number", timestamp: "now", signature: good, want: egress.ErrSignatureHeaders},
		{name: "no secrets", secrets: []string{}, signature: good, want: egress.ErrNoSecret},
		{name: "oversized signature", signature: strings.Repeat("v1,AAAA ", 2000) + good, want: egress.ErrSignatureHeaders},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.secrets == nil {
				c.secrets = []string{vectorSecret}
			}
			var secrets []egress.Secret
			for _, text := range c.secrets {
				secrets = append(secrets, secret(t, text))
			}
			header := http.Header{}
			for name, pair := range map[string][2]string{
				egress.HeaderID:        {c.id, vectorID},
				egress.HeaderTimestamp: {c.timestamp, strconv.Itoa(vectorTime)},
				egress.HeaderSignature: {c.signature, good},
			} {
				switch pair[0] {
				case "-":
				case "":
					header.Set(name, pair[1])
				default:
					header.Set(name, pair[0])
				}
			}
			err := egress.Verify(secrets, header, []byte(vectorBody), time.Unix(vectorTime, 0).Add(c.late), 0)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestVerifyRefusesEmptySecretsTamperedBodiesAndRepeatedHeaders(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	header.Set(egress.HeaderID, vectorID)
	header.Set(egress.HeaderTimestamp, strconv.Itoa(vectorTime))
	header.Set(egress.HeaderSignature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	now, secrets := time.Unix(vectorTime, 0), []egress.Secret{secret(t, vectorSecret)}
	require.ErrorIs(t, egress.Verify([]egress.Secret{{}, egress.NewSecret("")}, header, []byte(vectorBody), now, 0), egress.ErrNoSecret)
	for i := range len(vectorBody) {
		tampered := []byte(vectorBody)
		tampered[i] ^= 1
		require.ErrorIs(t, egress.Verify(secrets, header, tampered, now, 0), egress.ErrSignatureMismatch)
	}
	require.ErrorIs(t, egress.Verify(secrets, header, []byte(vectorBody), now.Add(2*time.Second), time.Second), egress.ErrSignatureTime)
	header.Add(egress.HeaderID, vectorID)
	require.ErrorIs(t, egress.Verify(secrets, header, []byte(vectorBody), now, 0), egress.ErrSignatureHeaders)
}

func TestParseSecretTakes24To64BytesAndNeverRepeatsTheText(t *testing.T) {
	t.Parallel()
	for size := range 80 {
		text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'s'}, size))
		for _, text := range []string{text, "whsec_" + text} {
			_, err := egress.ParseSecret(text)
			require.Equal(t, size >= 24 && size <= 64, err == nil, "%d bytes", size)
		}
	}
	for _, text := range []string{"", "whsec_", "whsec_!!!", "whsk_" + vectorSecret[6:], vectorSecret + "\n", "whsec_" + vectorSecret, vectorSecret + "="} {
		_, err := egress.ParseSecret(text)
		require.ErrorIs(t, err, egress.ErrSecretFormat)
		require.NotContains(t, err.Error(), "MfKQ")
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	const canary = "canary-value"
	type nested struct {
		Shown  egress.Credential
		secret egress.Secret
		list   []egress.Secret
	}
	s := egress.NewSecret(canary)
	values := []any{s, &s, []egress.Secret{s}, map[string]egress.Secret{"k": s}, nested{egress.Credential{Name: "A", Value: s}, s, []egress.Secret{s}}}
	var seen strings.Builder
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
			fmt.Fprintf(&seen, verb+"\n", value)
		}
		text, err := json.Marshal(value)
		require.NoError(t, err)
		seen.Write(text)
		slog.New(slog.NewJSONHandler(&seen, nil)).InfoContext(t.Context(), "secret", slog.Any("value", value))
		slog.New(slog.NewTextHandler(&seen, nil)).InfoContext(t.Context(), "secret", slog.Any("value", value))
	}
	require.NotContains(t, seen.String(), canary)
	require.NotContains(t, strings.ToLower(seen.String()), "63616e617279") // in hex
	require.NotContains(t, seen.String(), "99 97 110")                     // in bytes
	text, err := s.MarshalText()
	require.NoError(t, err)
	require.Equal(t, []string{"***", "***", "***"}, []string{s.String(), s.GoString(), string(text)})
	require.True(t, s.Equal(egress.NewSecret(canary)))
	require.False(t, s.Equal(egress.Secret{}))
	require.True(t, egress.Secret{}.Empty())
}
