package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// binder binds request bodies, and nothing else, strictly. echo's own binder would bind
// path and query parameters into the body's struct, ignore trailing data and take an
// absent body for an empty object.
type binder struct{}

// Bind decodes the body into dst and notes it in the exchange. An empty body is a problem
// that is also io.EOF, which is how the generated code knows that an optional body is
// absent.
func (binder) Bind(dst any, c echo.Context) error {
	r := c.Request()
	if r.ContentLength == 0 {
		return emptyBody()
	}
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	raw, err := io.ReadAll(r.Body) // bounded by the body limit in front
	if err != nil {
		return readFailure(err)
	}
	if len(raw) == 0 {
		return emptyBody()
	}
	doc, err := decodeStrict(raw, dst)
	if err != nil {
		return err
	}
	exchangeOf(r.Context()).body = doc
	return nil
}

func emptyBody() error {
	return fail(codeMalformedJSON, "the request body is empty").because(io.EOF)
}

func readFailure(err error) error {
	var framework *echo.HTTPError
	if errors.As(err, &framework) {
		return err
	}
	return fail(codeBadRequest, "the request body could not be read").because(err)
}

func checkMediaType(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fail(codeUnsupportedMediaType, "the request body must have no content coding")
	}
	media, params, err := mime.ParseMediaType(h.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationJSON {
		return fail(codeUnsupportedMediaType, "the request body must be application/json")
	}
	if charset, given := params["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return fail(codeUnsupportedMediaType, "the request body must be in UTF-8")
	}
	return nil
}

// QueryValues are the values of one query parameter. In JSON it is a string or an array
// of strings.
type QueryValues []string

// UnmarshalJSON reads a string as an array of one.
func (q *QueryValues) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*q = QueryValues{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(q))
}
