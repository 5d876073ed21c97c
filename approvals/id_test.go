package approvals_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
)

func TestIDsSortAsTheirBytesDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var x, y [16]byte
		copy(x[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "x"))
		copy(y[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "y"))
		if strings.Compare(approvals.TicketID(x), approvals.TicketID(y)) != bytes.Compare(x[:], y[:]) {
			rt.Fatalf("%x and %x", x, y)
		}
		if !approvals.ValidTicketID(approvals.TicketID(x)) {
			rt.Fatalf("%s is not valid", approvals.TicketID(x))
		}
	})
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	last := ""
	for range 1000 {
		id, err := uuid.NewV7()
		require.NoError(t, err)
		next := approvals.TicketID(id)
		require.Greater(t, next, last)
		last = next
	}
}

func TestMessageIDsHoldNoDot(t *testing.T) {
	t.Parallel()
	id := approvals.MessageID([16]byte{0xff, 1})
	require.Regexp(t, `^msg_[0-9a-hjkmnp-tv-z]{26}$`, id)
}

func TestTicketIDHasOneSpelling(t *testing.T) {
	t.Parallel()
	good := approvals.TicketID([16]byte{1, 2, 3})
	require.True(t, approvals.ValidTicketID(good))
	for name, id := range map[string]string{
		"empty": "", "prefix only": "tkt_", "other prefix": "msg_" + good[4:], "upper case": strings.ToUpper(good),
		"short": good[:29], "long": good + "0", "letter outside the alphabet": good[:29] + "u",
		"bits beyond the last byte": good[:29] + "1", "line break": good[:28] + "\r\n", "space": good[:29] + " ",
		"slash": good[:29] + "/",
	} {
		require.False(t, approvals.ValidTicketID(id), "%s: %q", name, id)
	}
}
