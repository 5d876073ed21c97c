package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"
)

// maxEcho bounds what of the client's own words is repeated in a problem.
const maxEcho = 256

// handleError is echo's error handler: whatever went wrong leaves as a problem document.
func (s *Server) handleError(err error, c echo.Context) {
	f := failureOf(err)
	if f.code == codeBodyTooLarge {
		f.detail = fmt.Sprintf("the request body is over the limit of %d bytes", s.maxBody)
	}
	x := exchangeOf(c.Request().Context())
	x.code, x.cause = f.code, f.cause
	if c.Response().Committed {
		return // part of an answer is out; a second one would be glued to it
	}
	x.writeErr = writeProblem(c, f)
}

func writeProblem(c echo.Context, f *failure) error {
	kind := problemKinds[f.code]
	instance := f.instance
	if instance == "" {
		instance = cut(c.Request().URL.EscapedPath(), maxEcho)
	}
	body, err := json.Marshal(Problem{
		Type: kind.uri(f.code), Title: kind.title, Status: kind.status, Code: f.code, Detail: f.detail,
		Instance: instance, RequestID: requestID(c),
		Errors: f.errors, Allowed: f.allowed, State: f.state, ViolatedPolicies: f.violated,
	})
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("Cache-Control", "no-store") // some may be kept unless that is said (RFC 9110 section 15.1)
	for name, values := range f.header {
		header[name] = values
	}
	header.Set(echo.HeaderContentType, "application/problem+json")
	if c.Request().Method == http.MethodHead {
		return c.NoContent(kind.status)
	}
	c.Response().WriteHeader(kind.status)
	_, err = c.Response().Write(append(body, '\n'))
	return err
}

// requestID is what we call a request. An answer of the front has the upstream's in its place.
func requestID(c echo.Context) string {
	if id := exchangeOf(c.Request().Context()).request; id != "" {
		return id
	}
	return c.Response().Header().Get(echo.HeaderXRequestID)
}

// cut shortens a text to at most n bytes, at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
