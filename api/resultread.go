package api

import (
	"context"
	"fmt"

	"countersign/approvals"
	"countersign/db"
)

// resultRead is the event of the service that says who has read the answer to a call whose
// rule calls it sensitive.
const resultRead = "result.read"

// readResult reads what an upstream answered. Of what a rule calls sensitive each reading is
// written down before it is answered; where that fails, so does the reading.
func (o operations) readResult(ctx context.Context, x *exchange, ref db.Ref) (approvals.Result, error) {
	result, err := o.store.Result(ctx, ref)
	if err != nil {
		return approvals.Result{}, err
	}
	t, err := o.store.Ticket(ctx, ref)
	if err != nil {
		return approvals.Result{}, err
	}
	if !t.Plan.Sensitive {
		return result, nil
	}
	what := map[string]string{"ticket_id": t.ID, "digest": result.Digest}
	if err := o.store.NoteServiceEvent(ctx, "ticket/"+t.ID, resultRead, x.actor(), what); err != nil {
		return approvals.Result{}, fmt.Errorf("write down who reads the result of ticket %s: %w", t.ID, err)
	}
	return result, nil
}
