package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"countersign/client"
)

type callbacksCmd struct {
	List       callbacksListCmd       `cmd:"" help:"List the endpoints that callbacks may go to."`
	Show       callbacksShowCmd       `cmd:"" help:"Show one endpoint."`
	Verify     callbacksVerifyCmd     `cmd:"" help:"Ask an endpoint now whether it wants callbacks."`
	Enable     callbacksEnableCmd     `cmd:"" help:"Have an endpoint sent callbacks again."`
	Disable    callbacksDisableCmd    `cmd:"" help:"Have nothing more sent to an endpoint. What it is owed is kept."`
	Test       callbacksTestCmd       `cmd:"" help:"Post a test event to an endpoint."`
	Deliveries callbacksDeliveriesCmd `cmd:"" help:"List deliveries, or show one with its attempts."`
}

type callbacksListCmd struct {
	remoteFlags
	Caller string `help:"Only those of this caller." placeholder:"NAME"`
}

// Help is shown below the flags.
func (callbacksListCmd) Help() string { return remoteHelp }

// Run lists endpoints.
func (c callbacksListCmd) Run(env environment) error {
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "CALLER", "ORIGIN", "STATE", "FAILURES", "VERIFICATION"}}
	for e, err := range remote.Endpoints(env.ctx, c.Caller) {
		switch {
		case err != nil:
			return coded(err)
		case c.JSON:
			if err := printJSON(env, e.Raw); err != nil {
				return err
			}
		default:
			rows = append(rows, []string{
				safe(e.ID), brief(e.Caller, 24), safe(e.Origin), safe(e.State), fmt.Sprint(e.Health.Failures), safe(e.Verification.State),
			})
		}
	}
	if c.JSON {
		return nil
	}
	return table(env, rows)
}

// table prints rows, of which the first has the titles.
func table(env environment, rows [][]string) error {
	p := painter(env)
	_, err := io.WriteString(env.stdout, columns("", rows, func(row, _ int, text string) string {
		if row == 0 {
			return p.bold(text)
		}
		return text
	}))
	return err
}

// endpointArg is the endpoint of a command.
type endpointArg struct {
	remoteFlags
	ID string `arg:"" help:"The endpoint, end_…"`
}

// about does something to an endpoint and shows it as it is then.
func (a endpointArg) about(env environment, do func(*client.Client) (client.Endpoint, error)) error {
	remote, err := a.connect(env)
	if err != nil {
		return err
	}
	e, err := do(remote)
	if err != nil {
		return coded(err)
	}
	if a.JSON {
		return printJSON(env, e.Raw)
	}
	_, err = io.WriteString(env.stdout, endpointSheet(painter(env), e))
	return err
}

func endpointSheet(p paint, e client.Endpoint) string {
	rows := [][]string{{"Endpoint", safe(e.ID)}, {"Caller", safe(e.Caller)}, {"Origin", safe(e.Origin)}, {"State", safe(e.State)}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, safe(text)})
		}
	}
	if d := e.Disabled; d != nil {
		add("Disabled", fmt.Sprintf("%s by %s: %s", clockTime(d.At), d.By, d.Reason))
	}
	v := e.Verification
	if v.How != "" {
		v.State += ", by " + v.How
	}
	add("Verification", v.State)
	add("Not verified", v.Error)
	add("Asked under", v.URL)
	if e.Health.Failures > 0 {
		add("Failures", fmt.Sprintf("%d in a row", e.Health.Failures))
	}
	for _, at := range []struct {
		name string
		at   *time.Time
	}{
		{"Failing since", e.Health.FailingSince},
		{"Succeeded", e.Health.SucceededAt},
		{"Failed", e.Health.FailedAt},
		{"Held until", e.Health.HeldUntil},
		{"Rests until", e.Health.RestingUntil},
	} {
		if at.at != nil {
			add(at.name, clockTime(*at.at))
		}
	}
	if e.Held != nil {
		add("Due again", plural(*e.Held, "delivery", "deliveries"))
	}
	return labelled(p, rows)
}

// labelled lines up rows of a name and a text.
func labelled(p paint, rows [][]string) string {
	return columns("", rows, func(_, column int, text string) string {
		if column == 0 {
			return p.dim(text)
		}
		return text
	})
}

type callbacksShowCmd struct{ endpointArg }

// Help is shown below the flags.
func (callbacksShowCmd) Help() string { return remoteHelp }

// Run shows an endpoint.
func (c callbacksShowCmd) Run(env environment) error {
	return c.about(env, func(r *client.Client) (client.Endpoint, error) { return r.Endpoint(env.ctx, c.ID) })
}

type callbacksVerifyCmd struct{ endpointArg }

// Help is shown below the flags.
func (callbacksVerifyCmd) Help() string { return remoteHelp }

// Run verifies an endpoint. One that does not agree is exit code 1.
func (c callbacksVerifyCmd) Run(env environment) error {
	var state string
	err := c.about(env, func(r *client.Client) (client.Endpoint, error) {
		e, err := r.VerifyEndpoint(env.ctx, c.ID)
		state = e.Verification.State
		return e, err
	})
	if err == nil && state == "unverified" {
		return fmt.Errorf("endpoint %s did not agree to be sent callbacks", safe(c.ID))
	}
	return err
}

type callbacksEnableCmd struct{ endpointArg }

// Help is shown below the flags.
func (callbacksEnableCmd) Help() string { return remoteHelp }

// Run enables an endpoint.
func (c callbacksEnableCmd) Run(env environment) error {
	none := false
	err := c.about(env, func(r *client.Client) (client.Endpoint, error) {
		e, err := r.EnableEndpoint(env.ctx, c.ID)
		none = e.Held != nil && *e.Held == 0
		return e, err
	})
	if err != nil || c.JSON || !none {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "\nWhat was given up stays so. Send it once more with:  countersign redeliver --endpoint %s --since 24h\n", safe(c.ID))
	return err
}

type callbacksDisableCmd struct {
	endpointArg
	Reason string `help:"Why." required:"" placeholder:"TEXT" short:"m" aliases:"why"`
}

// Help is shown below the flags.
func (callbacksDisableCmd) Help() string { return remoteHelp }

// Run disables an endpoint.
func (c callbacksDisableCmd) Run(env environment) error {
	return c.about(env, func(r *client.Client) (client.Endpoint, error) { return r.DisableEndpoint(env.ctx, c.ID, c.Reason) })
}

type callbacksTestCmd struct {
	endpointArg
	URL string `help:"Address under the endpoint's origin; without it where the endpoint was verified, else where the newest callback went." placeholder:"URL"`
}

// Help is shown below the flags.
func (callbacksTestCmd) Help() string { return remoteHelp }

// Run posts a test event. One that is not taken is exit code 1.
func (c callbacksTestCmd) Run(env environment) error {
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	got, err := remote.TestEndpoint(env.ctx, c.ID, c.URL)
	if err != nil {
		if c.URL == "" && errors.Is(err, client.ErrValidationFailed) {
			err = fmt.Errorf("%w: give --url URL", err)
		}
		return coded(err)
	}
	if c.JSON {
		err = printJSON(env, got.Raw)
	} else {
		rows := [][]string{{"Delivered", fmt.Sprint(got.Delivered)}, {"Status", fmt.Sprint(got.Status)}, {"Took", fmt.Sprintf("%d ms", got.DurationMS)}}
		if got.Response != "" {
			rows = append(rows, []string{"Answer", brief(got.Response, 500)})
		}
		_, err = io.WriteString(env.stdout, labelled(painter(env), rows))
	}
	if err == nil && !got.Delivered {
		return said{fmt.Errorf("the test event was not taken: %s", withReason(got.Class, got.Error))}
	}
	return err
}

type callbacksDeliveriesCmd struct {
	remoteFlags
	deliveryFlags
	Limit int    `help:"Up to how many; 50 unless given." placeholder:"N"`
	ID    string `arg:"" optional:"" help:"One delivery, msg_…, with its attempts."`
}

// deliveryFlags say which deliveries are meant.
type deliveryFlags struct {
	Endpoint string        `help:"Those to this endpoint." placeholder:"ID"`
	Ticket   string        `help:"Those of this ticket." placeholder:"ID"`
	State    []string      `help:"Those in this state: pending, delivered or exhausted." placeholder:"STATE"`
	Since    time.Duration `help:"Those of events since, such as 24h." placeholder:"TIME"`
}

func (f deliveryFlags) filter(env environment) client.DeliveryFilter {
	out := client.DeliveryFilter{Endpoint: f.Endpoint, Ticket: f.Ticket, States: f.State}
	if f.Since > 0 {
		out.Since = env.now().Add(-f.Since)
	}
	return out
}

// Help is shown below the flags.
func (callbacksDeliveriesCmd) Help() string { return remoteHelp }

// Run lists deliveries, or shows one.
func (c callbacksDeliveriesCmd) Run(env environment) error {
	if c.Limit < 0 || c.Limit > mostTickets {
		return usageError{fmt.Errorf("--limit must be between 1 and %d", mostTickets)}
	}
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	if c.ID != "" {
		return c.one(env, remote)
	}
	limit := c.Limit
	if limit == 0 {
		limit = defaultTickets
	}
	filter := c.filter(env)
	filter.PageSize = min(limit, 200)
	rows := [][]string{{"ID", "STATE", "ATTEMPTS", "AGE", "TYPE", "TICKET", "TO"}}
	for d, err := range remote.Deliveries(env.ctx, filter) {
		if err != nil {
			return coded(err)
		}
		if c.JSON {
			if err := printJSON(env, d.Raw); err != nil {
				return err
			}
		}
		rows = append(rows, []string{
			safe(d.ID), safe(d.State), fmt.Sprint(d.Attempts), age(env.now().Sub(d.CreatedAt)), safe(d.Type), safe(d.TicketID), brief(d.URL, 60),
		})
		if limit--; limit == 0 {
			break
		}
	}
	if c.JSON {
		return nil
	}
	return table(env, rows)
}

func (c callbacksDeliveriesCmd) one(env environment, remote *client.Client) error {
	d, err := remote.Delivery(env.ctx, c.ID)
	if err != nil {
		return coded(err)
	}
	if c.JSON {
		return printJSON(env, d.Raw)
	}
	if _, err := io.WriteString(env.stdout, labelled(painter(env), [][]string{
		{"Delivery", safe(d.ID)},
		{"State", safe(d.State)},
		{"Event", safe(d.Type)},
		{"Ticket", safe(d.TicketID)},
		{"Endpoint", safe(d.EndpointID)},
		{"To", safe(d.URL)},
	})); err != nil {
		return err
	}
	rows := [][]string{{"ATTEMPT", "AT", "TRIGGER", "STATUS", "TOOK", "ERROR"}}
	for _, a := range d.Log {
		rows = append(rows, []string{
			fmt.Sprint(a.Number), clockTime(a.At), safe(a.Trigger), fmt.Sprint(a.Status), fmt.Sprintf("%d ms", a.DurationMS), brief(a.Error, 80),
		})
	}
	return table(env, rows)
}
