package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fingerprint is a digest of all that is written in a configuration's files.
type fingerprint [sha256.Size]byte

// maxWatched bounds what is read of one file; package policy refuses far smaller ones.
const maxWatched = 16 << 20

// fingerprintOf digests a file, or the names and contents of a directory's files. What
// cannot be read has a fingerprint, too: that of the reason.
func fingerprintOf(path string) (f fingerprint) {
	h := sha256.New()
	entries, err := os.ReadDir(path)
	if err != nil { // a file, or nothing that can be read
		digestFile(h, path)
		return fingerprint(h.Sum(nil))
	}
	for _, e := range entries { // sorted by name
		if ext := strings.ToLower(filepath.Ext(e.Name())); ext == ".yaml" || ext == ".yml" {
			digestFile(h, filepath.Join(path, e.Name()))
		}
	}
	return fingerprint(h.Sum(nil))
}

// digestFile writes a file's name, length and content, or why there is none.
func digestFile(w io.Writer, path string) {
	content, err := readWatched(path)
	_, _ = fmt.Fprintf(w, "%q %d %v\n", path, len(content), err)
	_, _ = w.Write(content)
}

func readWatched(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path) // a pipe could block for ever
	}
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, maxWatched))
}
