package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"countersign/approvals"
)

// operations implements the interface that is generated from openapi.yaml. Its methods
// are the operations, one file each.
type operations struct{ *Server }

var _ StrictServerInterface = operations{}

// answer is a response whose headers depend on the ticket. One type serves all
// operations, so that there is one place that sets them.
type answer struct {
	status int
	header http.Header
	body   any // nil: none
}

func (a answer) write(w http.ResponseWriter) error {
	var body []byte
	if a.body != nil {
		var err error
		if body, err = json.Marshal(a.body); err != nil {
			return err
		}
		body = append(body, '\n')
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body))) // else what is long goes out in chunks
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, err := w.Write(body)
	return err
}

// VisitSubmitTicketResponse writes the answer.
func (a answer) VisitSubmitTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitGetTicketResponse writes the answer.
func (a answer) VisitGetTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitCancelTicketResponse writes the answer.
func (a answer) VisitCancelTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitGetTicketResultResponse writes the answer.
func (a answer) VisitGetTicketResultResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitListTicketsResponse writes the answer.
func (a answer) VisitListTicketsResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitListTicketEventsResponse writes the answer.
func (a answer) VisitListTicketEventsResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitListEventsResponse writes the answer.
func (a answer) VisitListEventsResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitDecideTicketResponse writes the answer.
func (a answer) VisitDecideTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitAskTicketResponse writes the answer.
func (a answer) VisitAskTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitAnswerTicketResponse writes the answer.
func (a answer) VisitAnswerTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitResolveTicketResponse writes the answer.
func (a answer) VisitResolveTicketResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitExplainCallResponse writes the answer.
func (a answer) VisitExplainCallResponse(w http.ResponseWriter) error { return a.write(w) }

// ticketAnswer renders a ticket for whoever asks, with the headers that every answer about
// one has.
func (s *Server) ticketAnswer(ctx context.Context, x *exchange, status int, t approvals.Ticket) (answer, error) {
	details := s.details(t, x.config.Directory().At(s.now()))
	var err error
	if details.Notification, err = s.notification(ctx, x, t); err != nil {
		return answer{}, err
	}
	if t.Question == nil && t.Questions > 0 {
		last, err := s.answered(ctx, t.ID)
		if err != nil {
			return answer{}, err
		}
		details.Question = question(last)
	}
	if x.person.Name != "" {
		x.hide(&details.TicketSummary, t)
		details.Call = shownCall(t)
	}
	a := answer{status: status, header: make(http.Header), body: details}
	a.revalidate(t.Version)
	a.retryAfter(retryAfter(t.State, t.CreatedAt, s.now()))
	return a, nil
}

// revalidate marks an answer as private to the caller and valid for one version.
func (a answer) revalidate(version int64) {
	a.header.Set("Cache-Control", "private, no-cache")
	a.header["ETag"] = []string{etag(version)} // as the RFC writes it, not as Go would
}

func (a answer) retryAfter(seconds int) {
	if seconds > 0 {
		a.header.Set("Retry-After", strconv.Itoa(seconds))
	}
}

// waited says what became of a preference to wait.
func (a answer) waited(w waiting) {
	a.header.Set("Vary", "Prefer")
	if applied := w.applied(); applied != "" {
		a.header.Set("Preference-Applied", applied)
	}
}

// locate says where the ticket is to be polled.
func (a answer) locate(id string) { a.header.Set("Location", ticketPath(id)) }

func ticketPath(id string) string { return "/v1/tickets/" + id }

// private is the answer of a list: it belongs to the caller, and is not to be kept.
func private(body any) answer {
	return answer{
		status: http.StatusOK, body: body,
		header: http.Header{"Cache-Control": {"private, no-cache"}},
	}
}

// sinceID is the Retry-After of a ticket of which only the id and state are known.
func (s *Server) sinceID(id string, state approvals.State) int {
	return retryAfter(state, madeAt(id), s.now())
}
