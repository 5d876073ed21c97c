package api

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// acceptJSON refuses requests that want anything but JSON (RFC 9110 section 12.5.1).
func acceptJSON(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !asksRaw(c) && !accepts(c.Request().Header.Get("Accept"), "application", "json") {
			return fail(codeNotAcceptable, "only application/json is offered here")
		}
		return next(c)
	}
}

// accepts reports whether an Accept header admits a media type. The most specific range
// decides. What cannot be read is passed over; a header of nothing else admits everything.
func accepts(header, typ, subtype string) bool {
	best, admitted, readable := -1, true, false
	for part := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if !readable {
			readable, admitted = true, false
		}
		if s := specificity(media, typ, subtype); s > best {
			best, admitted = s, quality(params["q"]) > 0
		}
	}
	return admitted
}

// named is the quality of a media type that an Accept header lists by its name, -1 when it
// does not.
func listed(header, typ, subtype string) float64 {
	best := -1.0
	for part := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err == nil && specificity(media, typ, subtype) == 2 {
			best = max(best, quality(params["q"]))
		}
	}
	return best
}

func specificity(media, typ, subtype string) int {
	switch media {
	case typ + "/" + subtype:
		return 2
	case typ + "/*":
		return 1
	case "*/*":
		return 0
	}
	return -1
}

func quality(q string) float64 {
	if q == "" {
		return 1
	}
	f, err := strconv.ParseFloat(q, 64)
	if err != nil {
		return 0
	}
	return f
}

// etag is the strong entity tag of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// etags is what If-Match or If-None-Match lists. The zero value is an absent header.
type etags struct {
	given bool
	any   bool
	tags  []string
}

// parseETags reads a list of entity tags (RFC 9110 section 8.8.3).
func parseETags(name, header string) (etags, error) {
	if header == "" {
		return etags{}, nil
	}
	if strings.TrimSpace(header) == "*" {
		return etags{given: true, any: true}, nil
	}
	out := etags{given: true}
	for part := range strings.SplitSeq(header, ",") {
		tag := strings.TrimSpace(part)
		if tag == "" {
			continue
		}
		opaque := strings.TrimPrefix(tag, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
			return etags{}, badHeader(name, `must be "*" or a list of quoted entity tags`)
		}
		out.tags = append(out.tags, tag)
	}
	return out, nil
}

// has compares an opaque tag as If-None-Match does.
func (e etags) has(tag string) bool {
	return e.any || slices.ContainsFunc(e.tags, func(t string) bool { return strings.TrimPrefix(t, "W/") == tag })
}

// weak compares as If-None-Match does.
func (e etags) weak(version int64) bool { return e.match(version, "W/") }

// strong compares as If-Match does.
func (e etags) strong(version int64) bool { return e.match(version, "") }

func (e etags) match(version int64, ignored string) bool {
	if e.any {
		return true
	}
	want := etag(version)
	for _, tag := range e.tags {
		if strings.TrimPrefix(tag, ignored) == want {
			return true
		}
	}
	return false
}

func badHeader(name, detail string) *failure {
	return failItems(codeInvalidHeader, []ProblemItem{{Header: http.CanonicalHeaderKey(name), Detail: name + " " + detail}})
}
