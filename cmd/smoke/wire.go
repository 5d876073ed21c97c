package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// front goes through the proxy front, as a client that was given another address and a key.
func (s *smoke) front(ctx context.Context) error {
	got, err := s.api.call(ctx, http.MethodGet, "/proxy/billing/customers/42?expand=all", nil, s.words()...)
	if err != nil {
		return err
	}
	id := got.header.Get("Countersign-Ticket")
	s.equal("what is allowed is answered by the upstream itself", "200", statusCode(got))
	s.contains("its answer is the upstream's", string(got.body), "GET /v1/customers/42")
	s.check(id != "" && got.header.Get("X-Request-Id") == "" && got.header.Get("X-Frame-Options") == "", "with nothing added but Countersign-Ticket")
	if _, err := s.ends(ctx, expectation{id: id, state: "succeeded", calls: 1}); err != nil {
		return err
	}
	if err := s.rawResult(ctx, id, got); err != nil {
		return err
	}
	got, err = s.api.call(ctx, http.MethodDelete, "/proxy/billing/accounts/7", nil, s.words()...)
	if err != nil {
		return err
	}
	s.equal("what a rule denies is a problem", "403 denied", statusCode(got))
	if _, err := s.ends(ctx, expectation{id: got.header.Get("Countersign-Ticket"), state: "denied"}); err != nil {
		return err
	}
	return s.frontWaits(ctx)
}

// words are the header fields that say what the body of a submit would.
func (s *smoke) words() []string {
	return []string{
		"Countersign-Justification", "at the front", "Countersign-Metadata", `{"case":"991 <&>","door":"front"}`,
		"Countersign-Callback-Url", s.demo.callback + "/hook",
	}
}

// rawResult reads the stored answer as the upstream gave it.
func (s *smoke) rawResult(ctx context.Context, id string, direct answer) error {
	raw, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/"+id+"/result?raw=true", nil)
	if err != nil {
		return err
	}
	s.equal("the raw result is the same, byte by byte", string(direct.body), string(raw.body))
	s.equal("of the same type", direct.header.Get("Content-Type"), raw.header.Get("Content-Type"))
	s.equal("and says the upstream's status", "200", raw.header.Get("AsyncResult"))
	return nil
}

// frontWaits holds a call at the front until it is approved, and follows its events meanwhile.
func (s *smoke) frontWaits(ctx context.Context) error {
	type outcome struct {
		got answer
		err error
	}
	held := make(chan outcome, 1)
	go func() {
		got, err := s.api.call(ctx, http.MethodPost, "/proxy/billing/refunds", json.RawMessage(refundBody),
			append(s.words(), "Prefer", "wait=15")...)
		held <- outcome{got, err}
	}()
	t, err := s.frontTicket(ctx)
	if err != nil {
		return err
	}
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	followed := make(chan []string, 1)
	go func() { followed <- s.follow(ctx, t.ID) }()
	if err := s.press(ctx, "bo", card); err != nil {
		return err
	}
	end := <-held
	if end.err != nil {
		return end.err
	}
	s.equal("held until bo approves, then answered by the upstream", "200", statusCode(end.got))
	s.contains("with its answer", string(end.got.body), "POST /v1/refunds")
	s.equal("and the ticket's name", t.ID, end.got.header.Get("Countersign-Ticket"))
	s.contains("its events came as they happened", strings.Join(<-followed, " "), "ticket.created", "ticket.approved", "ticket.succeeded")
	_, err = s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed: POST", "Upstream answered 200"}})
	return err
}

// frontTicket waits for the ticket of the call that is held, without polling.
func (s *smoke) frontTicket(ctx context.Context) (ticket, error) {
	tag := ""
	for range 20 {
		headers := []string{"Prefer", "wait=5"}
		if tag != "" {
			headers = append(headers, "If-None-Match", tag)
		}
		got, err := s.api.call(ctx, http.MethodGet, "/v1/tickets?state=pending&wait=5s", nil, headers...)
		if err != nil {
			return ticket{}, err
		}
		var list struct {
			Items []ticket `json:"items"`
		}
		if got.status == http.StatusOK {
			if err := json.Unmarshal(got.body, &list); err != nil {
				return ticket{}, fmt.Errorf("read the list: %w", err)
			}
		}
		for _, t := range list.Items {
			if t.Metadata["door"] == "front" {
				return t, nil
			}
		}
		tag = got.header.Get("ETag")
	}
	return ticket{}, fmt.Errorf("the call that is held has no ticket")
}

// follow reads a ticket's event stream to its end and returns the types of what came.
func (s *smoke) follow(ctx context.Context, id string) (types []string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api.base+"/v1/tickets/"+id+"/events", nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Authorization", "Bearer "+s.api.key)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.api.http.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			types = append(types, name)
		}
	}
	return types
}

// endpoints looks at the callback endpoint of the demo, and has a delivery made again.
func (s *smoke) endpoints(ctx context.Context) error {
	list, err := fetch[struct {
		Items []struct {
			Verification struct{ State string } `json:"verification"`
		} `json:"items"`
	}](ctx, s.api.http, http.MethodGet, s.api.base+"/v1/callback-endpoints", nil, "Authorization", "Bearer "+s.api.key)
	if err != nil {
		return err
	}
	if len(list.Items) != 1 {
		return fmt.Errorf("there are %d endpoints, not one", len(list.Items))
	}
	s.equal("the demo's receiver has agreed to callbacks, or need not", true, list.Items[0].Verification.State != "unverified")
	return s.again(ctx)
}

// again has the newest delivery made once more.
func (s *smoke) again(ctx context.Context) error {
	list, err := fetch[struct {
		Items []struct {
			ID       string `json:"id"`
			TicketID string `json:"ticket_id"`
			State    string `json:"state"`
		} `json:"items"`
	}](ctx, s.api.http, http.MethodGet, s.api.base+"/v1/deliveries?state=delivered", nil, "Authorization", "Bearer "+s.api.key)
	if err != nil || len(list.Items) == 0 {
		return fmt.Errorf("list deliveries: %d found: %w", len(list.Items), err)
	}
	d := list.Items[0]
	before, err := s.demo.callbacks(ctx, d.TicketID)
	if err != nil {
		return err
	}
	got, err := s.api.call(ctx, http.MethodPost, "/v1/deliveries/"+d.ID+"/redeliver", nil)
	if err != nil {
		return err
	}
	s.equal("a delivery can be asked for again", "202", statusCode(got))
	for range 100 {
		after, err := s.demo.callbacks(ctx, d.TicketID)
		if err != nil {
			return err
		}
		if len(after) > len(before) {
			s.equal("and comes with the same id", d.ID, after[len(after)-1].ID)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("delivery %s did not come again", d.ID)
}
