// Package client is what callers of Countersign build on. It needs the standard library only.
//
// A Client submits calls and follows their tickets:
//
//	c, err := client.New(client.Config{BaseURL: "https://countersign.example.com", Key: key})
//	t, err := c.Submit(ctx, client.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"})
//	t, err = c.Wait(ctx, t.ID)
//	if err := t.Err(); err != nil { … } // *DeniedError, *ExpiredError, *OutcomeUnknownError, …
//	r, err := c.Result(ctx, t.ID)
//
// Client.Transport turns an ordinary http.Client into one whose calls wait for their approval. VerifyCallback is the
// middleware for the address to which results are posted.
//
// States, events and fields that this package does not know yet are passed on and never an error. A Client is safe for
// concurrent use. Keys and secrets are of type Secret, which prints as ***.
package client
