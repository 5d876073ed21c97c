package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"countersign/approvals"
	"countersign/policy"
)

// exchange is what is known of one request while it is handled. Handlers take from it who
// asks, and leave in it what the log line should say.
type exchange struct {
	config *policy.Config
	// Either the caller or the person who asks; the other one has no name.
	caller policy.Caller
	person approvals.Person
	apiKey policy.CallerKey // the caller's; zero, which may everything, for a token
	ref    string           // which key or account it was
	key    string           // the Idempotency-Key
	body   document

	// stream says that the answer is to be a stream of events. still finds out, while it
	// lasts, whether whoever opened it still may, as who they are by then.
	stream bool
	still  func(ctx context.Context) (*exchange, error)

	ticket   string
	request  string // the id of the request, where the answer does not carry it
	replayed bool
	broken   bool   // the answer is to be broken off, so that nobody takes a part of it for the whole
	code     string // of the problem that was answered
	cause    error
	writeErr error
	stack    string
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request, an empty one, that names no caller, when
// there is none.
func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

func begin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		x := &exchange{}
		setContext(context.WithValue(c.Request().Context(), exchangeKey{}, x), c)
		err := next(c)
		if x.broken { // logged by now
			panic(http.ErrAbortHandler)
		}
		return err
	}
}

func setContext(ctx context.Context, c echo.Context) { c.SetRequest(c.Request().WithContext(ctx)) }

var goodRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// unfitRequestID is the key of a request id that was dropped.
type unfitRequestID struct{}

// cleanRequestID drops a request id that is not fit for logs and answers; a fresh one is
// made then. It is kept aside: at the front it may be part of the call.
func cleanRequestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Request().Header
		if ids := h.Values(echo.HeaderXRequestID); len(ids) > 0 && (len(ids) != 1 || !goodRequestID.MatchString(ids[0])) {
			setContext(context.WithValue(c.Request().Context(), unfitRequestID{}, ids), c)
			h.Del(echo.HeaderXRequestID)
		}
		return next(c)
	}
}

func newRequestID() string {
	id, err := uuid.NewV7()
	if err != nil {
		return "" // no randomness: the request goes on without a name
	}
	return strings.TrimPrefix(approvals.TicketID(id), "tkt_")
}

// recoverPanics turns a panic into an internal problem. Its text and stack go to the log
// line only.
func recoverPanics() echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		DisableStackAll: true, DisableErrorHandler: true, StackSize: 8 << 10,
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			exchangeOf(c.Request().Context()).stack = string(stack)
			// Not wrapped: a panic with a polite error in it is still a panic.
			return internal(fmt.Errorf("panic: %v", err)) //nolint:errorlint // see above
		},
	})
}

// logRequests writes one line a request, with the route's template and never a query, a
// body or a header.
func (s *Server) logRequests() echo.MiddlewareFunc {
	return middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogLatency: true, LogRemoteIP: true, LogMethod: true, LogRoutePath: true, LogStatus: true,
		LogResponseSize: true, HandleError: true,
		LogValuesFunc: func(c echo.Context, v middleware.RequestLoggerValues) error {
			ctx := c.Request().Context()
			s.log.LogAttrs(ctx, levelOf(ctx, v), "request", requestAttrs(c, v, exchangeOf(ctx))...)
			return nil
		},
	})
}

func levelOf(ctx context.Context, v middleware.RequestLoggerValues) slog.Level {
	switch {
	case ctx.Err() != nil: // the client has left: whatever was answered is nobody's fault
		return slog.LevelInfo
	case v.Status >= http.StatusInternalServerError:
		return slog.LevelError
	case v.Method == http.MethodGet && (v.RoutePath == "/healthz" || v.RoutePath == "/readyz"):
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func requestAttrs(c echo.Context, v middleware.RequestLoggerValues, x *exchange) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("request_id", requestID(c)),
		slog.String("method", cut(v.Method, 16)), slog.String("route", cut(v.RoutePath, 128)),
		slog.Int("status", v.Status), slog.Float64("duration_ms", float64(v.Latency.Microseconds())/1000),
		slog.Int64("bytes_out", v.ResponseSize), slog.String("remote_ip", v.RemoteIP),
	}
	for _, a := range []slog.Attr{
		slog.String("caller", x.caller.Name), slog.String("person", x.person.Name), slog.String("ticket_id", x.ticket),
		slog.String("problem", x.code), slog.String("stack", x.stack),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if c.Request().Context().Err() != nil {
		attrs = append(attrs, slog.Bool("client_gone", true))
	}
	if x.replayed {
		attrs = append(attrs, slog.Bool("replayed", true))
	}
	if x.cause != nil && v.Status >= http.StatusInternalServerError {
		attrs = append(attrs, slog.String("error", x.cause.Error()))
	}
	if x.writeErr != nil {
		attrs = append(attrs, slog.String("write_error", x.writeErr.Error()))
	}
	return attrs
}

func noStore(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store") // handlers may know better
		return next(c)
	}
}

// deadline bounds the handling of a request. What the client asks to wait comes on top.
func (s *Server) deadline(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if exchangeOf(r.Context()).stream {
			return next(c) // it bounds what it does itself
		}
		wait, err := s.waitOf(r.URL.Query().Get("wait"), r.Header.Get("Prefer"))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.timeout+wait.length)
		defer cancel()
		defer c.SetRequest(r) // the log line is to see whether the client left, not our deadline
		setContext(ctx, c)
		return next(c)
	}
}

// joinLists joins header fields that are lists by definition, and so may come in several
// lines (RFC 9110 section 5.3).
func joinLists(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Request().Header
		for _, name := range []string{"Prefer", "If-Match", "If-None-Match", "Accept"} {
			if lines := h.Values(name); len(lines) > 1 {
				h.Set(name, strings.Join(lines, ", "))
			}
		}
		return next(c)
	}
}

// onlyQuery refuses query parameters that the operation does not have, empty ones, and all
// but state more than once: what is silently ignored is sooner or later relied upon.
func onlyQuery(names ...string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if items := queryMistakes(c.Request().URL.RawQuery, names); len(items) > 0 {
				return failItems(codeInvalidParameter, items)
			}
			return next(c)
		}
	}
}

func queryMistakes(raw string, names []string) []ProblemItem {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return []ProblemItem{{Detail: "the query is not well formed"}}
	}
	var items []ProblemItem
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			detail := "unknown parameter " + quote(name)
			if near := nearest(name, names); near != "" {
				detail += " (did you mean " + quote(near) + "?)"
			}
			items = append(items, ProblemItem{Parameter: cut(name, 64), Detail: detail})
		case values[0] == "" && name != "page_token": // an empty token is the first page
			items = append(items, ProblemItem{Parameter: name, Detail: "parameter " + quote(name) + " is empty"})
		case len(values) > 1 && name != "state":
			items = append(items, ProblemItem{Parameter: name, Detail: "parameter " + quote(name) + " is given more than once"})
		}
	}
	slices.SortFunc(items, func(a, b ProblemItem) int { return strings.Compare(a.Parameter, b.Parameter) })
	return items[:min(len(items), maxItems)]
}

func badParameter(name, format string, args ...any) *failure {
	return failItems(codeInvalidParameter, []ProblemItem{{Parameter: name, Detail: fmt.Sprintf(format, args...)}})
}
