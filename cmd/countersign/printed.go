package main

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// setDefault makes a logger that of the process, and has it take what libraries print by
// themselves.
func setDefault(to *slog.Logger) {
	slog.SetDefault(to)
	log.SetFlags(0)
	log.SetOutput(printed{to})
}

// maxPrinted bounds what is kept of one print, in bytes.
const maxPrinted = 500

// printed is where the standard logger writes. What net/http finds on a connection that nobody
// has asked anything on it quotes, and a server can put there whatever it was ever sent: of a
// quotation only what stands before it is kept.
type printed struct{ to *slog.Logger }

// Write takes one print.
func (p printed) Write(b []byte) (int, error) {
	text, _, _ := strings.Cut(string(b), `"`)
	text = strings.ToValidUTF8(strings.TrimSpace(text[:min(len(text), maxPrinted)]), "")
	p.to.WarnContext(context.Background(), "a library has printed something", slog.String("text", text))
	return len(b), nil
}
