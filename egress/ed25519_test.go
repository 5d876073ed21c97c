package egress_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// The key of RFC 8037, appendix A.
const (
	rfcSeed       = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	rfcPublic     = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	rfcThumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func raw(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(tb, err)
	return b
}

func signingKey(tb testing.TB, seed []byte) egress.SigningKey {
	tb.Helper()
	key, err := egress.ParseSigningKey("whsk_" + base64.StdEncoding.EncodeToString(seed))
	require.NoError(tb, err)
	return key
}

func TestTheKeySetIsThatOfRFC8037(t *testing.T) {
	t.Parallel()
	key, other := signingKey(t, raw(t, rfcSeed)), signingKey(t, bytes.Repeat([]byte{7}, 32))
	require.Equal(t, "whpk_"+base64.StdEncoding.EncodeToString(raw(t, rfcPublic)), key.PublicKey().String())
	require.Equal(t, rfcThumbprint, key.PublicKey().ID())
	require.Equal(t, `{"keys":[{"crv":"Ed25519","kty":"OKP","x":"`+rfcPublic+`","alg":"EdDSA","kid":"`+rfcThumbprint+`","use":"sig"}]}`,
		string(egress.JWKS([]egress.SigningKey{key, {}})))
	require.Equal(t, `{"keys":[]}`, string(egress.JWKS(nil)))
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, D string }
	}
	require.NoError(t, json.Unmarshal(egress.JWKS([]egress.SigningKey{other, key}), &set))
	require.Len(t, set.Keys, 2)
	require.Equal(t, []string{other.PublicKey().ID(), key.PublicKey().ID()}, []string{set.Keys[0].Kid, set.Keys[1].Kid})
	require.Empty(t, set.Keys[0].D+set.Keys[1].D)
}

func TestAsymmetricSignaturesVerifyWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	first, second := signingKey(t, raw(t, rfcSeed)), signingKey(t, bytes.Repeat([]byte{7}, 32))
	signatures := strings.Fields(egress.SignEd25519([]egress.SigningKey{first, {}, second}, vectorID, time.Unix(vectorTime, 0), []byte(vectorBody)))
	require.Len(t, signatures, 2)
	content := []byte(vectorID + "." + strconv.Itoa(vectorTime) + "." + vectorBody)
	for i, seed := range [][]byte{raw(t, rfcSeed), bytes.Repeat([]byte{7}, 32)} {
		encoded, found := strings.CutPrefix(signatures[i], "v1a,")
		require.True(t, found)
		signature, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		public, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		require.True(t, ok)
		require.True(t, ed25519.Verify(public, content, signature))
	}
	require.Empty(t, egress.SignEd25519(nil, vectorID, time.Unix(vectorTime, 0), nil))
}

func TestBothKindsOfSignatureGoOutAndEitherVerifies(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	key, former := signingKey(t, raw(t, rfcSeed)), signingKey(t, bytes.Repeat([]byte{7}, 32))
	a := attempt(t, server.url("/").String())
	a.SigningKeys = []egress.SigningKey{key, former}
	require.Equal(t, egress.Delivered, newDeliverer(t, egress.DelivererConfig{Policy: loopback()}).Do(t.Context(), a).Class)
	got := server.last(t)
	header := http.Header{}
	for _, name := range []string{egress.HeaderID, egress.HeaderTimestamp, egress.HeaderSignature} {
		header.Set(name, got.header(name))
	}
	versions := ""
	for _, signature := range strings.Fields(header.Get(egress.HeaderSignature)) {
		version, _, _ := strings.Cut(signature, ",")
		versions += version + " "
	}
	require.Equal(t, "v1 v1a v1a ", versions)
	now, body := time.Unix(vectorTime, 0), []byte(got.Body)
	require.NoError(t, egress.Verify(a.Secrets, header, body, now, 0))
	for _, k := range a.SigningKeys {
		require.NoError(t, egress.VerifyEd25519([]egress.PublicKey{{}, k.PublicKey()}, header, body, now, 0))
	}
	stranger := signingKey(t, bytes.Repeat([]byte{9}, 32)).PublicKey()
	require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{stranger}, header, body, now, 0), egress.ErrSignatureMismatch)
	require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{{}}, header, body, now, 0), egress.ErrNoSecret)
	require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{key.PublicKey()}, header, body, now.Add(301*time.Second), 0), egress.ErrSignatureTime)
	require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{key.PublicKey()}, http.Header{}, body, now, 0), egress.ErrSignatureHeaders)
	for i := range body {
		tampered := bytes.Clone(body)
		tampered[i] ^= 1
		require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{key.PublicKey()}, header, tampered, now, 0), egress.ErrSignatureMismatch)
	}
	asV1 := strings.ReplaceAll(header.Get(egress.HeaderSignature), "v1a,", "v1,")
	header.Set(egress.HeaderSignature, asV1)
	require.ErrorIs(t, egress.VerifyEd25519([]egress.PublicKey{key.PublicKey()}, header, body, now, 0), egress.ErrSignatureMismatch)
}

func TestSigningKeysAreReadStrictlyAndNeverPrint(t *testing.T) {
	t.Parallel()
	seed := raw(t, rfcSeed)
	long := ed25519.NewKeyFromSeed(seed)
	require.Equal(t, signingKey(t, seed).PublicKey(), signingKey(t, long).PublicKey())
	mixed := append(bytes.Clone(long[:32]), bytes.Repeat([]byte{1}, 32)...)
	for _, text := range []string{
		"", "whsk_", base64.StdEncoding.EncodeToString(seed), "whsec_" + base64.StdEncoding.EncodeToString(seed), "whpk_" + base64.StdEncoding.EncodeToString(seed),
		"whsk_" + base64.StdEncoding.EncodeToString(seed[:31]), "whsk_" + base64.StdEncoding.EncodeToString(mixed), "whsk_" + rfcSeed,
		"whsk_" + base64.StdEncoding.EncodeToString(seed) + "\n",
	} {
		_, err := egress.ParseSigningKey(text)
		require.ErrorIs(t, err, egress.ErrKeyFormat, text)
		require.NotContains(t, err.Error(), "nWGx")
	}
	key := signingKey(t, seed)
	public, err := egress.ParsePublicKey(key.PublicKey().String())
	require.NoError(t, err)
	require.Equal(t, key.PublicKey(), public)
	_, err = egress.ParsePublicKey("whsk_" + base64.StdEncoding.EncodeToString(seed))
	require.ErrorIs(t, err, egress.ErrKeyFormat)
	require.Equal(t, egress.PublicKey{}, egress.SigningKey{}.PublicKey())

	var seen strings.Builder
	for _, value := range []any{key, &key, []egress.SigningKey{key}, struct{ key egress.SigningKey }{key}, egress.Attempt{SigningKeys: []egress.SigningKey{key}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&seen, verb+"\n", value)
		}
		slog.New(slog.NewJSONHandler(&seen, nil)).InfoContext(t.Context(), "key", slog.Any("value", value))
	}
	for _, form := range []string{string(seed), "nWGx", fmt.Sprintf("%x", seed[:8]), fmt.Sprintf("%X", seed[:8]), "157 97 177"} {
		require.NotContains(t, seen.String(), form)
	}
}
