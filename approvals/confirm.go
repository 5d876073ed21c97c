package approvals

import "slices"

// Confirm says how deliberate an approval in Slack has to be. Each level is stricter than
// the one before it. What it does not know it takes for the strictest.
type Confirm string

const (
	// ConfirmNone takes the press of the button.
	ConfirmNone Confirm = "none"
	// ConfirmDialog is the default: the button asks back.
	ConfirmDialog Confirm = ""
	// ConfirmModal takes an approval only from the view of the whole request.
	ConfirmModal Confirm = "modal"
	// ConfirmCode wants the last four digits of the fingerprint typed there besides.
	ConfirmCode Confirm = "code"
)

// Confirms lists the levels, the strictest last.
func Confirms() []Confirm { return []Confirm{ConfirmNone, ConfirmDialog, ConfirmModal, ConfirmCode} }

// Stricter returns the stricter of two levels.
func (c Confirm) Stricter(d Confirm) Confirm {
	if d.rank() > c.rank() {
		return d
	}
	return c
}

func (c Confirm) rank() int {
	if i := slices.Index(Confirms(), c); i >= 0 {
		return i
	}
	return len(Confirms())
}
