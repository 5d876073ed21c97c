package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Event is a fact of a ticket's history.
type Event struct {
	// TicketID is whose it is.
	TicketID string `json:"ticket_id"`
	// Sequence is the ticket's version after the event.
	Sequence int64     `json:"sequence"`
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	State    State     `json:"state"`
	Done     bool      `json:"done"`
	Actor    Actor     `json:"actor"`
	Data     EventData `json:"data"`
	// Cursor is where to go on from, with AllEvents.
	Cursor string `json:"-"`
	// Raw is the document as it came.
	Raw json.RawMessage `json:"-"`
}

// EventReset is the type of an event that says that events before it can no longer be had: read the tickets anew.
const EventReset = "reset"

// Actor is who did something. Name is empty for what the service did of itself.
type Actor struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Via  string `json:"via"`
}

// EventData holds the facts of an event; which are there depends on its type. All that came is in Event.Raw.
type EventData struct {
	Decision     *Decision       `json:"decision"`
	Progress     *Progress       `json:"progress"`
	Question     *Question       `json:"question"`
	Stage        int             `json:"stage"`
	Round        int             `json:"round"`
	Number       int             `json:"number"`
	Asked        []string        `json:"asked"`
	SupersededBy string          `json:"superseded_by"`
	Reason       string          `json:"reason"`
	Error        *TicketProblem  `json:"error"`
	Refusal      *Refusal        `json:"refusal"`
	Result       *ResultDocument `json:"result"`
	Delivery     *Delivery       `json:"delivery"`
}

// Progress is a stage's tally after an event.
type Progress struct {
	Needed        int `json:"needed"`
	Have          int `json:"have"`
	Denials       int `json:"denials"`
	DenialsNeeded int `json:"denials_needed"`
}

// Refusal is what somebody tried, and why it was not allowed.
type Refusal struct {
	Tried   string `json:"tried"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Delivery is one try to post an event to the callback. Status is 0 when the receiver gave none.
type Delivery struct {
	Sequence   int64      `json:"sequence"`
	Number     int        `json:"number"`
	Status     int        `json:"status"`
	DurationMS int64      `json:"duration_ms"`
	Error      string     `json:"error"`
	NextAt     *time.Time `json:"next_at"`
}

// Events goes through the events of a ticket after a sequence number, 0 for all of them, as they happen: over one
// connection (server-sent events), which it makes anew when it breaks, without a gap and without repeating any. It ends
// after the final event, with the context, or with an error that trying again does not help.
func (c *Client) Events(ctx context.Context, id string, after int64) iter.Seq2[Event, error] {
	cursor := ""
	if after > 0 {
		cursor = strconv.FormatInt(after, 10)
	}
	return func(yield func(Event, error) bool) {
		last := after
		c.stream(ctx, ticketPath(id)+"/events", cursor, func(e Event, err error) bool {
			switch {
			case err != nil:
			case e.Type == EventReset: // what comes next may begin anew
				last, _ = strconv.ParseInt(e.Cursor, 10, 64)
			case e.Sequence <= last:
				return true
			default:
				last = e.Sequence
			}
			e.TicketID = id
			return yield(e, err)
		})
	}
}

// AllEvents goes through the events of all tickets there are to see, as they happen, after a cursor; empty means from
// now on. An event may come more than once: TicketID and Sequence tell. Keep Event.Cursor to go on later.
func (c *Client) AllEvents(ctx context.Context, cursor string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { c.stream(ctx, "/v1/events", cursor, yield) }
}

const (
	// quiet is how long a stream may say nothing: the server sends a comment every 15 seconds.
	quiet       = 50 * time.Second
	maxLine     = 4 << 20
	defaultBack = 3 * time.Second
)

// errStreamOver ends a stream for good.
var errStreamOver = errors.New("the stream is over")

// stream keeps a stream up and hands on what it says.
func (c *Client) stream(ctx context.Context, path, cursor string, yield func(Event, error) bool) {
	s := &stream{cursor: cursor, back: defaultBack, yield: yield}
	failures := 0
	for {
		before := s.count
		err := s.read(ctx, c, path)
		switch {
		case errors.Is(err, errStreamOver):
			return
		case ctx.Err() != nil:
			yield(Event{}, ctx.Err())
			return
		case err != nil && !passing(err):
			yield(Event{}, err)
			return
		case s.done && s.count > before:
			sleep(ctx, min(s.back, firstPause)) // it ended with the ticket, as the server says when it is asked again
			continue
		case s.count > before:
			failures = 0
		}
		failures++
		sleep(ctx, min(max(s.back, asked(err))*time.Duration(min(failures, 10)), longestRetryAfter))
	}
}

type stream struct {
	cursor string
	back   time.Duration // before a new connection
	count  int           // events so far
	done   bool          // the last of them is final
	yield  func(Event, error) bool
}

// read makes one connection and reads it to its end.
func (s *stream) read(ctx context.Context, c *Client, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(quiet, cancel)
	defer idle.Stop()
	r := request{method: http.MethodGet, path: path, header: http.Header{"Accept": {"text/event-stream"}}}
	if s.cursor != "" {
		r.header.Set("Last-Event-ID", s.cursor)
	}
	res, err := c.send(ctx, r)
	if err != nil {
		return r.explain(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it is wanted
	switch {
	case res.StatusCode == http.StatusNoContent:
		return errStreamOver
	case res.StatusCode != http.StatusOK:
		body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		return r.explain(problemOf(res.StatusCode, res.Header, body, c.now()))
	case !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
		return r.explain(&ProblemError{Status: res.StatusCode, Detail: "the answer is no stream of events: is the address right?"})
	}
	return s.parse(bufio.NewReader(res.Body), func() { idle.Reset(quiet) })
}

// parse reads events as WHATWG HTML section 9.2.6 has them.
func (s *stream) parse(from *bufio.Reader, alive func()) error {
	var f frame
	for {
		line, err := readLine(from)
		if err != nil {
			return fmt.Errorf("read events: %w", plain(err))
		}
		alive()
		if line != "" {
			if f.take(line, &s.back); f.size > maxLine {
				return errors.New("read events: one is too long")
			}
			continue
		}
		if err := s.dispatch(f); err != nil {
			return err
		}
		f = frame{}
	}
}

// frame is one event as it comes over the wire.
type frame struct {
	id    *string
	event string
	data  []string
	size  int
}

func (f *frame) take(line string, back *time.Duration) {
	f.size += len(line) + 1
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		f.id = &value
	case "event":
		f.event = value
	case "data":
		f.data = append(f.data, value)
	case "retry":
		if n, err := strconv.ParseUint(value, 10, 31); err == nil {
			*back = min(time.Duration(n)*time.Millisecond, longestPause)
		}
	}
}

func (s *stream) dispatch(f frame) error {
	if f.id != nil {
		s.cursor = *f.id
	}
	var e Event
	switch {
	case f.event == EventReset:
		e = Event{Type: EventReset}
	case len(f.data) == 0:
		return nil
	default:
		raw := strings.Join(f.data, "\n")
		if err := json.Unmarshal([]byte(raw), &e); err != nil {
			return errors.New("read events: one is no JSON")
		}
		e.Raw = json.RawMessage(raw)
	}
	e.Cursor = s.cursor
	s.count, s.done = s.count+1, e.Done
	if !s.yield(e, nil) {
		return errStreamOver
	}
	return nil
}

// readLine reads a line without its end, which is LF or CRLF.
func readLine(from *bufio.Reader) (string, error) {
	var out []byte
	for {
		part, err := from.ReadSlice('\n')
		out = append(out, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(out), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(out) > maxLine:
			return "", errors.New("a line is too long")
		}
	}
}
