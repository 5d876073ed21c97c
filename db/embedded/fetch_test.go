//go:build unix

package embedded_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/embedded"
)

func TestDownloadedPostgresRunsAndIsKept(t *testing.T) {
	t.Parallel()
	bin, _, major, err := fast("").Resolve(t.Context(), t.TempDir())
	require.NoError(t, err)
	jar := jarOf(t, txz(t, map[string]string{
		"bin/postgres": wrapper(bin, "postgres"), "bin/initdb": wrapper(bin, "initdb"), "bin/pg_ctl": wrapper(bin, "pg_ctl"),
	}))
	var downloads atomic.Int32
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			sum := sha256.Sum256(jar)
			_, _ = fmt.Fprint(w, hex.EncodeToString(sum[:]))
			return
		}
		downloads.Add(1)
		_, _ = w.Write(jar)
	}))
	t.Cleanup(repository.Close)

	m := newMachine(t)
	config := m.config().WithRepository(repository.URL, fmt.Sprintf("%d.0.0", major))
	db := start(t, config)
	require.Equal(t, embedded.SourceDownload, db.Source)
	exe(t, connect(t, db.URL.Reveal()), `CREATE TABLE kept (n int)`)
	require.NoError(t, db.Stop(t.Context()))

	repository.Close()
	db = start(t, config)
	require.Equal(t, embedded.SourceCache, db.Source)
	require.False(t, db.FirstStart)
	require.Equal(t, int64(0), query[int64](t, connect(t, db.URL.Reveal()), `SELECT count(*) FROM kept`))
	require.Equal(t, int32(1), downloads.Load())
}

func wrapper(bin, name string) string {
	return fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", filepath.Join(bin, name))
}

// jarOf is what the library downloads: a zip with one .txz in it.
func jarOf(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	file, err := archive.Create("postgres.txz")
	require.NoError(t, err)
	_, err = file.Write(content)
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	return out.Bytes()
}

func txz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for name, content := range files {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}))
		_, err := archive.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.Less(t, out.Len(), 1<<16, "one chunk of LZMA2")
	return xz(out.Bytes())
}

// xz wraps up to 64 KiB in the xz format without compressing them: one block with one stored LZMA2 chunk.
func xz(content []byte) []byte {
	flags := []byte{0, 1} // CRC32 as the check
	header := sealed([]byte{2, 0, 0x21, 1, 0, 0, 0, 0})
	chunk := append(binary.BigEndian.AppendUint16([]byte{1}, uint16(len(content)-1)), content...) //nolint:gosec // at most 64 KiB
	chunk = append(chunk, 0)
	size := len(header) + len(chunk) + crc32.Size
	index := binary.AppendUvarint([]byte{0, 1}, uint64(size))
	index = sealed(padded(binary.AppendUvarint(index, uint64(len(content)))))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...) //nolint:gosec // a few bytes

	out := append([]byte("\xFD7zXZ\x00"), sealed(flags)...)
	out = append(out, header...)
	out = append(out, padded(chunk)...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(content))
	out = append(out, index...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), 'Y', 'Z')
}

func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b[:len(b):len(b)], crc32.ChecksumIEEE(b))
}

func padded(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
