package envelope_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/envelope"
)

func box(t *testing.T, keyset string) *envelope.Box {
	t.Helper()
	b, err := envelope.New(keyset)
	require.NoError(t, err, "read the keyset")
	return b
}

func newKeyset(t *testing.T) string {
	t.Helper()
	keyset, err := envelope.NewKeyset()
	require.NoError(t, err, "make a keyset")
	return keyset
}

func seal(t *testing.T, b *envelope.Box, plain string, place ...string) []byte {
	t.Helper()
	sealed, err := b.Seal([]byte(plain), place...)
	require.NoError(t, err, "seal")
	return sealed
}

func TestWhatIsSealedForAPlaceIsOpenedThereAndNowhereElse(t *testing.T) {
	t.Parallel()
	b := box(t, newKeyset(t))
	places := [][]string{
		{"tkt_1", "result", "7"},
		{"tkt_1", "result", "8"},
		{"tkt_1", "payload", "7"},
		{"tkt_2", "result", "7"},
		{"tkt_1result", "7"},
		{"tkt_1", "result7"},
		{"tkt_1", "result", "7", ""},
		{},
	}
	for i, at := range places {
		sealed := seal(t, b, "secret", at...)
		require.NotContains(t, string(sealed), "secret")
		for j, elsewhere := range places {
			plain, err := b.Open(sealed, elsewhere...)
			if i == j {
				require.NoError(t, err, "open where it belongs")
				require.Equal(t, "secret", string(plain))
				continue
			}
			require.ErrorIs(t, err, envelope.ErrSealed, "moved from %q to %q", at, elsewhere)
		}
	}
}

func TestEveryChangedByteIsFound(t *testing.T) {
	t.Parallel()
	b := box(t, newKeyset(t))
	sealed := seal(t, b, "the body of an answer", "tkt_1", "result", "1")
	for i := range sealed {
		sealed[i] ^= 1
		_, err := b.Open(sealed, "tkt_1", "result", "1")
		require.ErrorIs(t, err, envelope.ErrSealed, "byte %d", i)
		sealed[i] ^= 1
	}
	_, err := b.Open(sealed[:len(sealed)-1], "tkt_1", "result", "1")
	require.ErrorIs(t, err, envelope.ErrSealed, "one byte short")
	_, err = b.Open(nil, "tkt_1", "result", "1")
	require.ErrorIs(t, err, envelope.ErrSealed, "nothing at all")
	plain, err := b.Open(sealed, "tkt_1", "result", "1")
	require.NoError(t, err)
	require.Equal(t, "the body of an answer", string(plain))
}

func TestTheSameTextIsNeverSealedTheSameWay(t *testing.T) {
	t.Parallel()
	b := box(t, newKeyset(t))
	require.NotEqual(t, seal(t, b, "yes", "a"), seal(t, b, "yes", "a"))
}

func TestAfterRotationTheOldIsOpenedAndTheNewIsNotForTheOldKeys(t *testing.T) {
	t.Parallel()
	old := newKeyset(t)
	rotated, err := envelope.Rotate(old)
	require.NoError(t, err, "rotate")
	before, after := seal(t, box(t, old), "old", "a"), seal(t, box(t, rotated), "new", "a")
	plain, err := box(t, rotated).Open(before, "a")
	require.NoError(t, err)
	require.Equal(t, "old", string(plain))
	_, err = box(t, old).Open(after, "a")
	require.ErrorIs(t, err, envelope.ErrSealed, "sealed under the new key")
	_, err = box(t, newKeyset(t)).Open(before, "a")
	require.ErrorIs(t, err, envelope.ErrSealed, "another keyset")
}

func TestWhatIsNoKeysetIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{}", "hunter2", `{"primaryKeyId":1,"key":[]}`, strings.Repeat("x", 1<<20)} {
		_, err := envelope.New(text)
		require.ErrorIs(t, err, envelope.ErrKeyset)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = envelope.Rotate(text)
		require.ErrorIs(t, err, envelope.ErrKeyset)
	}
}

func TestABoxShowsNothingOfItsKeys(t *testing.T) {
	t.Parallel()
	keyset := newKeyset(t)
	var parsed struct {
		Key []struct {
			KeyData struct{ Value string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(keyset), &parsed))
	raw, err := base64.StdEncoding.DecodeString(parsed.Key[0].KeyData.Value)
	require.NoError(t, err)
	key := raw[len(raw)-32:]
	b := box(t, keyset)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("box", slog.Any("box", b))
	shown, err := json.Marshal(map[string]any{"box": b})
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %x %d", b, b, b, b, b, b), logged.String(), string(shown)} {
		require.Contains(t, text, "***")
		require.NotContains(t, text, string(key))
		require.NotContains(t, text, fmt.Sprintf("%x", key))
	}
}
