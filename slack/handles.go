package slack

import "regexp"

var (
	handlePattern = regexp.MustCompile(`^h_[0-9a-f]{32}$`)
	reviewPattern = regexp.MustCompile(`^v_[0-9a-f]{32}$`)
)

// ValidHandle reports whether the text has the form of a card's handle: "h_" and 128 random
// bits in hex. It says nothing about whether there is such a handle.
func ValidHandle(h string) bool { return handlePattern.MatchString(h) }

// ValidReview is [ValidHandle] for a review, the full view of a request that somebody has
// open: "v_" and 128 random bits in hex.
func ValidReview(h string) bool { return reviewPattern.MatchString(h) }
