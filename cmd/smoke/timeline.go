package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// event is a line of a ticket's timeline.
type event struct {
	Sequence int64     `json:"sequence"`
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	State    string    `json:"state"`
	Actor    struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"actor"`
	Data struct {
		Decision *decision `json:"decision"`
		Progress *struct {
			Needed int `json:"needed"`
			Have   int `json:"have"`
		} `json:"progress"`
		Stage   int      `json:"stage"`
		Error   *problem `json:"error"`
		Refusal *struct {
			Tried   string `json:"tried"`
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"refusal"`
		Delivery *struct {
			Sequence int64  `json:"sequence"`
			Number   int    `json:"number"`
			Status   int    `json:"status"`
			Error    string `json:"error"`
		} `json:"delivery"`
		Result *struct {
			Status int `json:"status"`
		} `json:"result"`
		Question *struct {
			Text   string `json:"text"`
			Answer string `json:"answer"`
		} `json:"question"`
		Reason string `json:"reason"`
	} `json:"data"`
}

// events reads what happened to a ticket.
func (a *api) events(ctx context.Context, id string) ([]event, error) {
	type list struct {
		Items []event `json:"items"`
	}
	got, err := fetch[list](ctx, a.http, http.MethodGet, a.base+"/v1/tickets/"+id+"/events?page_size=200", nil, "Authorization", "Bearer "+a.key)
	return got.Items, err
}

// timeline prints what happened to a ticket.
func (s *smoke) timeline(ctx context.Context, id string) error {
	events, err := s.api.events(ctx, id)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(s.out, "  %s\n", id)
	for _, e := range events {
		line := fmt.Sprintf("    %8.3f s  %-28s %-10s %s", e.At.Sub(events[0].At).Seconds(), e.Type, e.Actor.Name, e.words())
		_, _ = fmt.Fprintln(s.out, strings.TrimRight(line, " "))
	}
	return nil
}

// words says an event's facts.
func (e event) words() string {
	d := e.Data
	switch {
	case d.Decision != nil && d.Progress != nil:
		return fmt.Sprintf("%s, %d of %d %s", d.Decision.Verdict, d.Progress.Have, d.Progress.Needed, quoted(d.Decision.Comment))
	case d.Decision != nil:
		return d.Decision.Verdict + " " + quoted(d.Decision.Comment)
	case d.Question != nil && d.Question.Answer != "":
		return quoted(d.Question.Answer)
	case d.Question != nil:
		return quoted(d.Question.Text)
	case d.Refusal != nil:
		return fmt.Sprintf("tried to %s: %s", d.Refusal.Tried, d.Refusal.Message)
	case d.Delivery != nil:
		return fmt.Sprintf("attempt %d answered %d %s", d.Delivery.Number, d.Delivery.Status, d.Delivery.Error)
	case d.Result != nil:
		return fmt.Sprintf("the upstream answered %d", d.Result.Status)
	case d.Error != nil:
		return d.Error.Code + ": " + d.Error.Detail
	case e.Type == "ticket.stage_completed":
		return fmt.Sprintf("stage %d", d.Stage)
	}
	return d.Reason
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%q", text)
}

// types returns the types of the events, in order, without those left out.
func types(events []event, without ...string) (out []string) {
	for _, e := range events {
		if !contains(without, e.Type) {
			out = append(out, strings.TrimPrefix(e.Type, "ticket."))
		}
	}
	return out
}
