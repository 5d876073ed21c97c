package db

import (
	"fmt"
	"strconv"
	"strings"
)

// AnswerPlace is the Channel of a card of kind [CardAnswer]: it tells the messages apart that
// one person gets about several questions. seq is the event in which the question was asked.
func AnswerPlace(slackUser string, seq int64) string { return fmt.Sprintf("%s/%d", slackUser, seq) }

// Question is the event in which the question of a card of kind [CardAnswer] was asked; 0 for
// none.
func (c Card) Question() int64 {
	_, seq, _ := strings.Cut(c.Channel, "/")
	n, err := strconv.ParseInt(seq, 10, 64)
	if err != nil || n < 0 || c.Kind != CardAnswer {
		return 0
	}
	return n
}
