package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"countersign/client"
)

// exampleTB lets an example have the world of the tests.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                         {}
func (*exampleTB) Name() string                    { return "Example" }
func (*exampleTB) Failed() bool                    { return false }
func (*exampleTB) Context() context.Context        { return context.Background() }
func (*exampleTB) Logf(string, ...any)             {}
func (*exampleTB) Errorf(text string, args ...any) { panic(fmt.Sprintf(text, args...)) }
func (*exampleTB) Fatalf(text string, args ...any) { panic(fmt.Sprintf(text, args...)) }
func (*exampleTB) Fatal(args ...any)               { panic(fmt.Sprint(args...)) }
func (*exampleTB) FailNow()                        { panic("failed") }
func (tb *exampleTB) Cleanup(f func())             { tb.cleanups = append(tb.cleanups, f) }

// server is a Countersign with a person who decides on whatever comes, and an upstream.
type server struct {
	*world
	tb  *exampleTB
	URL string
	Key client.Secret
}

func exampleServer(verdict client.Verdict) *server {
	tb := &exampleTB{}
	w := setup(tb)
	s := &server{world: w, tb: tb, URL: w.url, Key: w.keys["payroll"]}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.decide(ctx, verdict)
	}()
	tb.Cleanup(func() { cancel(); <-over })
	return s
}

// decide decides on tickets as they come, and plays the upstream.
func (s *server) decide(ctx context.Context, verdict client.Verdict) {
	bo := s.as(s.tb, "bo")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		for t, err := range bo.Tickets(ctx, client.Filter{Mine: true}) {
			if err != nil {
				break
			}
			after, err := bo.Decide(ctx, t.ID, verdict, t.Digest, 0, "looked at it")
			if err == nil && after.State == client.Approved {
				s.made(s.tb, t.ID, reply{status: 200, mediaType: "application/json", body: `{"deleted":true}`}) //nolint:contextcheck // it goes on to its end
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Close takes the server away.
func (s *server) Close() {
	for i := len(s.tb.cleanups) - 1; i >= 0; i-- {
		s.tb.cleanups[i]()
	}
}

// A call is submitted, waited for, and its answer read.
func ExampleClient() {
	server := exampleServer(client.Approve) // yours is at https://countersign.example.com
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(client.Config{BaseURL: server.URL, Key: server.Key})
	if err != nil {
		panic(err)
	}
	ticket, err := c.Submit(ctx, client.Call{
		Upstream: "billing", Method: "DELETE", Path: "/customers/42", Justification: "customer asked for erasure, case 991",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(ticket.State)

	ticket, err = c.Wait(ctx, ticket.ID)
	if err != nil {
		panic(err)
	}
	result, err := c.Result(ctx, ticket.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println(ticket.State, "by", ticket.Decisions[0].Person)
	fmt.Println(result.Status, string(result.Body))
	// Output:
	// pending
	// succeeded by bo
	// 200 {"deleted":true}
}

// What became of a call without success is an error of its own type.
func ExampleTicket_Err() {
	server := exampleServer(client.Deny)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(client.Config{BaseURL: server.URL, Key: server.Key})
	if err != nil {
		panic(err)
	}
	ticket, err := c.Submit(ctx, client.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"})
	if err != nil {
		panic(err)
	}
	if ticket, err = c.Wait(ctx, ticket.ID); err != nil {
		panic(err)
	}
	var denied *client.DeniedError
	var unknown *client.OutcomeUnknownError
	switch err := ticket.Err(); {
	case err == nil:
		fmt.Println("done")
	case errors.As(err, &denied):
		fmt.Println("denied:", denied.Ticket.Decisions[0].Comment)
	case errors.As(err, &unknown):
		fmt.Println("it may have happened: do not repeat it blindly")
	}
	// Output: denied: looked at it
}

// An ordinary client becomes one whose calls wait for approval.
func ExampleClient_Transport() {
	server := exampleServer(client.Approve)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(client.Config{BaseURL: server.URL, Key: server.Key})
	if err != nil {
		panic(err)
	}
	transport, err := c.Transport(client.TransportConfig{
		Upstream: "billing", BaseURL: "https://billing.internal/v1", Justification: "nightly clean-up",
	})
	if err != nil {
		panic(err)
	}
	billing := &http.Client{Transport: transport} // from here on, an http.Client like any other

	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "https://billing.internal/v1/customers/42", nil)
	if err != nil {
		panic(err)
	}
	res, err := billing.Do(req)
	if err != nil {
		panic(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(res.StatusCode, string(body))
	// Output: 200 {"deleted":true}
}

// What happens to a ticket is followed as it happens.
func ExampleClient_Events() {
	server := exampleServer(client.Approve)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(client.Config{BaseURL: server.URL, Key: server.Key})
	if err != nil {
		panic(err)
	}
	ticket, err := c.Submit(ctx, client.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"})
	if err != nil {
		panic(err)
	}
	for event, err := range c.Events(ctx, ticket.ID, 0) {
		if err != nil {
			panic(err)
		}
		switch event.Type {
		case "ticket.created", "ticket.approved", "ticket.succeeded":
			fmt.Println(event.Type)
		}
	}
	// Output:
	// ticket.created
	// ticket.approved
	// ticket.succeeded
}

// The address to which results are posted takes none that Countersign has not signed.
func ExampleVerifyCallback() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of the published test vector
	verify, err := client.VerifyCallback(client.CallbackConfig{
		Secrets: []client.Secret{secret}, Seen: client.SeenInMemory(10_000),
	})
	if err != nil {
		panic(err)
	}
	receiver := httptest.NewServer(verify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, _ := client.EventFrom(r.Context())
		fmt.Println(event.Type, event.Data.TicketID, event.Data.State)
		w.WriteHeader(http.StatusNoContent)
	})))
	defer receiver.Close()

	fmt.Println(deliver(receiver.URL, secret))
	fmt.Println(deliver(receiver.URL, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
	// Output:
	// ticket.succeeded tkt_01jd8xk3r4f6v8w9y0z1a2b3c4 succeeded
	// 204
	// 401
}

// deliver posts an event as Countersign does.
func deliver(url, secret string) int {
	body := `{"type":"ticket.succeeded","timestamp":"2026-03-02T09:12:31.3Z","data":{"ticket_id":"tkt_01jd8xk3r4f6v8w9y0z1a2b3c4","state":"succeeded","done":true}}`
	at := time.Now() //nolint:forbidigo // timestamps are compared with the real clock
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		panic(err)
	}
	signature, err := signer.Sign("msg_1", at, []byte(body))
	if err != nil {
		panic(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header = signedHeader("msg_1", at.Unix(), signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}
