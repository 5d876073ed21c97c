package api

import (
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
)

// rawAnswer is an answer whose body is that of an upstream, as it was received.
type rawAnswer struct {
	header http.Header
	body   []byte
}

// VisitGetTicketResultResponse writes the answer.
func (a rawAnswer) VisitGetTicketResultResponse(w http.ResponseWriter) error {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.body)
	return err
}

// notOfResult are the fields of an upstream's answer that would say something about ours.
// Whoever needs them reads the result as JSON.
var notOfResult = map[string]bool{
	"etag": true, "cache-control": true, "x-request-id": true, "content-disposition": true, "content-digest": true,
	"repr-digest": true, "content-length": true, "date": true, "vary": true, "set-cookie": true, "asyncresult": true,
	"content-security-policy": true, "content-security-policy-report-only": true, "x-content-type-options": true,
	"strict-transport-security": true, "www-authenticate": true, "refresh": true, "clear-site-data": true, "link": true,
	"ratelimit": true, "ratelimit-policy": true, "access-control-allow-origin": true, "access-control-allow-credentials": true,
}

// rawResult is the answer of an upstream on its own: its bytes, and what they are. They may be
// anything, so a browser that is led here is told to run nothing and, but for JSON and plain
// text, to show nothing.
func rawResult(r approvals.Result, tag string) rawAnswer {
	h := make(http.Header)
	for _, f := range r.Headers {
		if name := strings.ToLower(f.Name); !notOfResult[name] && !ofConnection[name] && !own(f.Name) {
			h.Add(f.Name, f.Value)
		}
	}
	if len(h.Values("Content-Type")) != 1 || h.Get("Content-Type") == "" { // of two, clients take either
		h.Set("Content-Type", "application/octet-stream")
	}
	if !shown(h.Get("Content-Type")) {
		h.Set("Content-Disposition", "attachment")
	}
	sum := sha256.Sum256(r.Body)
	h.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	h.Set("Content-Length", strconv.Itoa(len(r.Body)))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-cache")
	h["AsyncResult"] = []string{strconv.Itoa(r.Status)}
	h["ETag"] = []string{tag}
	if r.Truncated {
		h.Set("Countersign-Truncated", "true")
	}
	return rawAnswer{header: h, body: r.Body}
}

// asksRaw reports whether a request is for the body of a result alone, which comes in
// whatever form it has.
func asksRaw(c echo.Context) bool {
	return c.Path() == "/v1/tickets/:id/result" && c.QueryParam("raw") == "true"
}

// shown reports whether a body can be looked at in a browser: nothing in it is ever run.
func shown(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || media == "text/plain" || strings.HasSuffix(media, "+json"))
}

// rawTag tells the body alone from the result as JSON: they are two representations.
func rawTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `-raw"` }

// lists reports whether a tag is among those of If-None-Match, which "*" does not name.
func (e etags) lists(tag string) bool {
	for _, t := range e.tags {
		if strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}
