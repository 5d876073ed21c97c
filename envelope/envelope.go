// Package envelope encrypts what is stored of other people's data: results and the callbacks
// that carry them. The database holds only what [Box.Seal] made; the keys are a Tink keyset
// that comes from outside of it.
//
// Every ciphertext is bound to the place it belongs to (ticket, field, number). Moved to
// another row or column it cannot be opened, and so cannot pass for what stood there.
package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// domain keeps our ciphertexts apart from all others under the same keys.
const domain = "countersign/v1"

// maxKeyset bounds a keyset, in bytes. One of ten keys has about 2 KiB.
const maxKeyset = 64 << 10

var (
	// ErrKeyset says that a text is no keyset to encrypt with. The text is never part of it.
	ErrKeyset = errors.New("not a Tink keyset in JSON with an enabled primary AEAD key; make one with: countersign keys encryption")
	// ErrSealed says that bytes cannot be opened: they were changed or moved, or their key is
	// not in the keyset.
	ErrSealed = errors.New("what is stored encrypted cannot be opened: it was changed or moved, or its key is missing from the keyset")
)

// Box seals and opens. It is safe for concurrent use, and prints *** under every verb.
type Box struct{ aead tink.AEAD }

// New reads a keyset: Tink's JSON, in the clear. Its primary key seals, each of its enabled
// keys opens. Errors are ErrKeyset.
func New(text string) (*Box, error) {
	handle, err := read(text)
	if err != nil {
		return nil, err
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, ErrKeyset
	}
	return &Box{aead: a}, nil
}

// NewKeyset makes a keyset with one key, AES-256-GCM.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("make a keyset: %w", err)
	}
	return write(handle)
}

// Rotate returns the keyset with a fresh key in front, which seals from then on. What the
// older ones have sealed can still be opened. Errors are ErrKeyset, or about randomness.
func Rotate(text string) (string, error) {
	handle, err := read(text)
	if err != nil {
		return "", err
	}
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("add a key: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return "", fmt.Errorf("set the primary key: %w", err)
	}
	if handle, err = manager.Handle(); err != nil {
		return "", fmt.Errorf("rotate the keyset: %w", err)
	}
	return write(handle)
}

// Seal encrypts plain for a place, such as a ticket's id, the name of a field and a number.
func (b *Box) Seal(plain []byte, place ...string) ([]byte, error) {
	sealed, err := b.aead.Encrypt(plain, associated(place))
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same place. Errors are ErrSealed.
func (b *Box) Open(sealed []byte, place ...string) ([]byte, error) {
	plain, err := b.aead.Decrypt(sealed, associated(place))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// String returns ***.
func (b *Box) String() string { return "***" }

// GoString returns ***.
func (b *Box) GoString() string { return "***" }

// Format writes *** whatever the verb.
func (b *Box) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// MarshalJSON returns "***".
func (b *Box) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// LogValue returns ***.
func (b *Box) LogValue() slog.Value { return slog.StringValue("***") }

// associated spells a place so that no two places have the same bytes: each part with its
// length in front.
func associated(place []string) []byte {
	out := []byte(domain)
	for _, part := range place {
		out = binary.BigEndian.AppendUint64(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}

func read(text string) (*keyset.Handle, error) {
	if len(text) > maxKeyset {
		return nil, ErrKeyset
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(text)))
	if err != nil {
		return nil, ErrKeyset // Tink's error may quote what it was given
	}
	return handle, nil
}

func write(handle *keyset.Handle) (string, error) {
	var out bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		return "", fmt.Errorf("write the keyset: %w", err)
	}
	return out.String(), nil
}
