package approvals

import (
	"encoding/base32"
	"strings"
)

// idEncoding is Crockford's base32 in lower case: its characters are in ASCII order,
// so that ids sort as their bytes do.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const (
	ticketPrefix  = "tkt_"
	messagePrefix = "msg_"
	idLength      = 26
)

// TicketID renders 16 bytes (a UUIDv7, RFC 9562) as a ticket id: "tkt_" and 26
// characters that sort by time.
func TicketID(uuid [16]byte) string { return ticketPrefix + idEncoding.EncodeToString(uuid[:]) }

// MessageID renders 16 bytes as the id of a callback message, "msg_" and 26
// characters. It holds no dot, as Standard Webhooks requires.
func MessageID(uuid [16]byte) string { return messagePrefix + idEncoding.EncodeToString(uuid[:]) }

// ValidTicketID reports whether the text has the form of a ticket id. It says nothing
// about whether the ticket exists.
func ValidTicketID(id string) bool {
	body, ok := strings.CutPrefix(id, ticketPrefix)
	if !ok || len(body) != idLength {
		return false
	}
	// The decoder skips line breaks and ignores the last two bits; comparing the text
	// again leaves one spelling per id.
	raw, err := idEncoding.DecodeString(body)
	return err == nil && idEncoding.EncodeToString(raw) == body
}
