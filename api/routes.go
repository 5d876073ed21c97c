package api

import (
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// maxSlackBody bounds what Slack may send, in bytes.
const maxSlackBody = 1 << 20

// slackPaths are the addresses that only Slack calls.
var slackPaths = []string{"/slack/interactions", "/slack/commands", "/slack/events"}

// routes builds the router: the chain every request passes, and the operations of
// openapi.yaml. The order of the chain matters: each link relies on those before it.
func (s *Server) routes(c Config) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard) // everything worth saying is in our own line
	e.IPExtractor = echo.ExtractIPDirect()
	e.Binder = binder{}
	e.HTTPErrorHandler = s.handleError
	e.Pre(cleanRequestID)
	e.Use(
		begin,
		middleware.RequestIDWithConfig(middleware.RequestIDConfig{Generator: newRequestID}),
		s.logRequests(),
		recoverPanics(),
		middleware.SecureWithConfig(middleware.SecureConfig{
			ContentTypeNosniff: "nosniff", XFrameOptions: "DENY", HSTSMaxAge: 31536000,
			ContentSecurityPolicy: "default-src 'none'; frame-ancestors 'none'", ReferrerPolicy: "no-referrer",
			HSTSExcludeSubdomains: true,
		}),
		middleware.BodyLimitWithConfig(middleware.BodyLimitConfig{
			Limit:   strconv.FormatInt(c.MaxBody, 10) + "B",
			Skipper: func(c echo.Context) bool { return slices.Contains(slackPaths, c.Path()) },
		}),
	)
	RegisterHandlersWithOptions(e, NewStrictHandler(operations{s}, nil), RegisterHandlersOptions{
		OperationMiddlewares: s.operationMiddlewares(),
	})
	s.routeFront(e)
	e.GET("/problems/:code", s.problemPage, noStore)
	if c.Slack != nil {
		for _, path := range slackPaths {
			e.POST(path, echo.WrapHandler(http.MaxBytesHandler(c.Slack, maxSlackBody)), noStore)
		}
	}
	return e
}

// queryParameters are those that each operation takes. Those it does not list take none.
// The tests compare it with openapi.yaml.
var queryParameters = map[string][]string{
	"listTickets":      {"state", "created_after", "created_before", "caller", "waiting_for", "page_size", "page_token", "wait"},
	"getTicket":        {"wait"},
	"getTicketResult":  {"raw"},
	"listTicketEvents": {"after", "page_size"},
	"listEvents":       {"after", "page_size"},

	"listCallbackEndpoints":          {"caller", "disabled", "page_size", "page_token"},
	"getCallbackEndpointStats":       {"since"},
	"listCallbackEndpointDeliveries": {"state", "since", "until", "page_size", "page_token"},
	"listDeliveries":                 {"caller", "ticket", "endpoint", "state", "since", "until", "page_size", "page_token"},
}

// operationMiddlewares says, per operation of openapi.yaml, what stands in front of it.
// The tests compare it with the document: no operation can be without a key by having
// been forgotten here.
func (s *Server) operationMiddlewares() map[string][]echo.MiddlewareFunc {
	return map[string][]echo.MiddlewareFunc{
		"submitTicket":     s.guarded("submitTicket", needKey),
		"listTickets":      s.guarded("listTickets"),
		"getTicket":        s.guarded("getTicket"),
		"getTicketResult":  s.guarded("getTicketResult"),
		"listTicketEvents": s.guarded("listTicketEvents"),
		"listEvents":       s.guarded("listEvents"),
		"cancelTicket":     s.guarded("cancelTicket"),
		"decideTicket":     s.guarded("decideTicket"),
		"askTicket":        s.guarded("askTicket"),
		"answerTicket":     s.guarded("answerTicket"),
		"resolveTicket":    s.guarded("resolveTicket"),
		"explainCall":      s.guarded("explainCall"),
		"jwks":             {},
		"healthz":          {noStore},

		"listCallbackEndpoints":          s.guarded("listCallbackEndpoints"),
		"getCallbackEndpoint":            s.guarded("getCallbackEndpoint"),
		"verifyCallbackEndpoint":         s.guarded("verifyCallbackEndpoint"),
		"enableCallbackEndpoint":         s.guarded("enableCallbackEndpoint"),
		"disableCallbackEndpoint":        s.guarded("disableCallbackEndpoint"),
		"testCallbackEndpoint":           s.guarded("testCallbackEndpoint"),
		"recoverCallbackEndpoint":        s.guarded("recoverCallbackEndpoint"),
		"getCallbackEndpointStats":       s.guarded("getCallbackEndpointStats"),
		"listCallbackEndpointDeliveries": s.guarded("listCallbackEndpointDeliveries"),
		"listDeliveries":                 s.guarded("listDeliveries"),
		"getDelivery":                    s.guarded("getDelivery"),
		"redeliverDelivery":              s.guarded("redeliverDelivery"),
		"redeliverDeliveries":            s.guarded("redeliverDeliveries"),
		"readyz":                         {noStore, s.deadline},
	}
}

// guarded is what stands in front of every operation that takes a key or token, in this
// order: who asks, how often they may, whether they may that at all, and the form of it.
func (s *Server) guarded(operation string, more ...echo.MiddlewareFunc) []echo.MiddlewareFunc {
	who := accessOf(operation)
	return append([]echo.MiddlewareFunc{
		noStore, s.authenticate, s.limited(who.class), who.admit,
		joinLists, s.accepted(operation), onlyQuery(queryParameters[operation]...), s.deadline,
	}, more...)
}
