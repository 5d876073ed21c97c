package slack

import (
	"fmt"
	"time"

	slackgo "github.com/slack-go/slack"
)

// EndpointTrouble is what people are told about a callback endpoint.
type EndpointTrouble struct {
	// ID of the endpoint, the Caller whose it is, and its Origin.
	ID, Caller, Origin string
	// Disabled: nothing is sent there until somebody enables it, because of Why, by By. False:
	// it is failing.
	Disabled bool
	Why, By  string
	// GivenUp is what the latest callback that is not tried again was about, such as
	// "ticket.succeeded of tkt_…"; empty: there is none. DeadLetter: that is the news.
	GivenUp    string
	DeadLetter bool
	// Failures in a row, since Since; zero: none.
	Failures int
	Since    time.Time
}

// Message renders it for a channel or for one of the caller's people.
func (e EndpointTrouble) Message() Message {
	title, text := "Callbacks are failing", e.failing()
	switch {
	case e.Disabled:
		title, text = "Callbacks are no longer sent", e.disabled()
	case e.DeadLetter:
		title, text = "A callback was given up", e.about("A callback")+" is not tried again."
	}
	if e.GivenUp != "" {
		text += " Given up: " + code(e.GivenUp, roomLine) + ". It is kept, and " + code("countersign redeliver --endpoint "+e.ID+" --since 24h", roomLine) +
			" sends once more what was given up."
	}
	return Message{Text: title + ": " + e.Caller, Blocks: []slackgo.Block{header(title), section(blockOutcome, text)}}
}

// about begins a sentence about what is sent there.
func (e EndpointTrouble) about(what string) string {
	return fmt.Sprintf("%s of *%s* to %s", what, mrkdwn(e.Caller, roomName), code(e.Origin, roomLine))
}

func (e EndpointTrouble) failing() string {
	text := e.about("Callbacks") + " are failing"
	if !e.Since.IsZero() {
		text += fmt.Sprintf(": %d attempts in a row since %s", e.Failures, date(e.Since))
	}
	return text + ". They are tried again; the endpoint is left alone for a while in between."
}

func (e EndpointTrouble) disabled() string {
	text := e.about("Callbacks") + " are no longer sent: " + mrkdwn(orDash(e.Why), roomReason) + "."
	if e.By != "" {
		text += " Disabled by " + mrkdwn(e.By, roomName) + "."
	}
	return text + " What is owed there is kept until an owner of the caller, an operator or the caller itself enables the endpoint: " +
		code("countersign callbacks enable "+e.ID, roomLine) + "."
}
