package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// fate is what becomes of a field of a request.
type fate string

const (
	keeps   fate = "kept"
	drops   fate = "dropped"
	refuses fate = "refused"
)

// fates is written by hand and not taken from the code: what the front makes of each field
// of a PUT with a body, at an upstream that takes the default fields.
var fates = map[string]fate{
	"Accept": keeps, "Accept-Language": keeps, "Content-Type": keeps, "Idempotency-Key": keeps, "If-Match": keeps,
	"If-None-Match": keeps, "Prefer": keeps, "X-Request-Id": keeps,

	"Accept-Charset": drops, "Accept-Encoding": drops, "Cache-Control": drops, "Pragma": drops, "User-Agent": drops, "Referer": drops,
	"Origin": drops, "Dnt": drops, "From": drops, "Date": drops, "Via": drops, "Forwarded": drops, "X-Forwarded-For": drops,
	"X-Forwarded-Host": drops, "X-Forwarded-Proto": drops, "X-Forwarded-Port": drops, "X-Forwarded-Client-Cert": drops,
	"X-Real-Ip": drops, "True-Client-Ip": drops, "Cf-Connecting-Ip": drops, "X-Amzn-Trace-Id": drops, "Traceparent": drops,
	"Sec-Fetch-Site": drops, "Sec-Ch-Ua": drops, "Range": drops, "If-Modified-Since": drops, "If-Range": drops, "Max-Forwards": drops,
	"Keep-Alive": drops, "Proxy-Connection": drops, "Content-Md5": drops, "Content-Language": drops, "X-Anything": drops,

	"X-Http-Method": refuses, "X-Http-Method-Override": refuses, "X-Method-Override": refuses, "X-Original-Url": refuses,
	"X-Original-Uri": refuses, "X-Original-Host": refuses, "X-Rewrite-Url": refuses, "X-Override-Url": refuses, "X-Host": refuses,
	"X-Forwarded-Prefix": refuses, "X-Forwarded-Uri": refuses, "X-Envoy-Original-Path": refuses, "Destination": refuses,
	"X-Forwarded-User": refuses, "X-Remote-User": refuses, "Remote-User": refuses, "X-Authenticated-User": refuses,
	"X-Auth-Request-Email": refuses, "Impersonate-User": refuses, "Cookie": refuses, "Proxy-Authorization": refuses,
	"X-Api-Key": refuses, "X-Auth-Token": refuses, "X-Amz-Security-Token": refuses, "Upgrade": refuses, "Te": refuses,
	"Http2-Settings": refuses, "Proxy": refuses, "Early-Data": refuses, "Sec-Websocket-Key": refuses, "Content-Encoding": refuses,
	"Content-Range": refuses, "If-Unmodified-Since": refuses,
}

// single are the kept fields of which a second line has two readings.
var single = []string{"Content-Type", "Idempotency-Key", "X-Request-Id"}

func TestEveryFieldIsKeptDroppedOrRefusedByName(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	cases := 0
	for _, name := range slices.Sorted(maps.Keys(fates)) {
		plain := func(lines ...string) http.Header { return http.Header{name: lines} }
		for what, c := range map[string]struct {
			header http.Header
			kept   []string // what a kept field comes to; nil: it is refused
		}{
			"plain":       {plain("value-1"), []string{"value-1"}},
			"odd case":    {http.Header{strings.ToUpper(name): {"value-1"}}, []string{"value-1"}},
			"blanks":      {plain("a  b\tc"), []string{"a  b\tc"}},
			"two lines":   {plain("value-1", "value-2"), []string{"value-1, value-2"}},
			"no ASCII":    {plain("v\xc3\xa4lue"), nil},
			"far too big": {plain(strings.Repeat("x", 9000)), nil},
		} {
			want := fates[name]
			if want == keeps && (c.kept == nil || what == "two lines" && slices.Contains(single, name)) {
				want = refuses
			}
			if name == "Idempotency-Key" && what == "blanks" {
				want = refuses // no key has blanks
			}
			cases++
			w.requireFate(t, name, what, c.header, want, c.kept)
		}
	}
	t.Logf("%d fields, %d cases", len(fates), cases)
}

func (w *frontWorld) requireFate(t *testing.T, name, what string, h http.Header, want fate, kept []string) {
	t.Helper()
	req := w.request(t, call{method: "PUT", path: "/proxy/billing/things/1", body: "{}"})
	delete(req.Header, "Content-Type")
	maps.Copy(req.Header, h)
	if name != "Content-Type" {
		req.Header["Content-Type"] = []string{"text/plain"}
	}
	if name == "Idempotency-Key" {
		req.Header = req.Header.Clone()
		for field, lines := range h {
			req.Header[field] = slices.Clone(lines)
			if kept != nil && what != "blanks" { // new each time
				req.Header[field][0] = freshKey()
				kept = []string{req.Header[field][0]}
			}
		}
	}
	r := w.round(t, req)
	if want == refuses {
		require.Contains(t, []int{400, 422, 431}, r.status, "%s (%s) is refused: %s", name, what, r.raw)
		if fates[name] == refuses {
			require.Equal(t, 422, r.status, "%s (%s): %s", name, what, r.raw)
			require.Contains(t, string(r.raw), `"header":"`+name+`"`, "%s (%s) is named", name, what)
		}
		return
	}
	require.Equal(t, 202, r.status, "%s (%s): %s", name, what, r.raw)
	expected := []approvals.Header{{Name: "Content-Type", Value: "text/plain"}}
	if want == keeps {
		if name == "Content-Type" {
			expected = nil
		}
		expected = append(expected, approvals.Header{Name: name, Value: kept[0]})
		slices.SortFunc(expected, func(a, b approvals.Header) int { return strings.Compare(a.Name, b.Name) })
	}
	require.Equal(t, expected, w.stored(t, ticketOf(t, r.header)).Call.Headers, "%s (%s) as it is stored", name, what)
}

// round makes a request as it is.
func (w *frontWorld) round(t *testing.T, req *http.Request) reply {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "%s %s", req.Method, req.URL)
	defer res.Body.Close() //nolint:errcheck // read to the end below
	raw := readAll(t, res.Body)
	return reply{status: res.StatusCode, header: res.Header, raw: raw}
}

func TestAFieldThatTheUpstreamTakesIsKeptWhateverItMeans(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	for name, c := range map[string]struct {
		method, path string
		pairs        []string
		body         string
		status       int
		kept         []approvals.Header
	}{
		"a condition of a read":           {"GET", "/proxy/plain/x", []string{"If-None-Match", `"1"`}, "", 202, nil},
		"a condition of a change":         {"PUT", "/proxy/plain/x", []string{"If-Match", `"1"`}, "", 422, nil},
		"a type without a body":           {"PUT", "/proxy/plain/x", []string{"Content-Type", "text/csv"}, "", 202, nil},
		"a type of a body":                {"PUT", "/proxy/plain/x", []string{"Content-Type", "text/csv"}, "a,b", 422, nil},
		"JSON":                            {"PUT", "/proxy/plain/x", []string{"Content-Type", "application/json"}, "{}", 202, []approvals.Header{{Name: "Content-Type", Value: "application/json"}}},
		"a key that is not passed on":     {"PUT", "/proxy/plain/x", []string{"Idempotency-Key", "k"}, "", 202, nil},
		"named in Connection and kept":    {"PUT", "/proxy/billing/x", []string{"Connection", "close, If-Match", "If-Match", `"1"`}, "", 422, nil},
		"named in Connection and dropped": {"PUT", "/proxy/billing/x", []string{"Connection", "Authorization, X-Hop", "X-Hop", "1"}, "", 202, nil},
		"only waiting":                    {"PUT", "/proxy/billing/x", []string{"Prefer", "wait=0"}, "", 202, nil},
		"waiting within quotes":           {"PUT", "/proxy/billing/x", []string{"Prefer", `a="b, wait=5", Wait=0;x, respond-async`}, "", 202, []approvals.Header{{Name: "Prefer", Value: `a="b, wait=5", respond-async`}}},
		"an underscore":                   {"PUT", "/proxy/billing/x", []string{"X_Http_Method_Override", "DELETE"}, "", 422, nil},
	} {
		req := w.request(t, call{method: c.method, path: c.path, body: c.body, header: headers(c.pairs...)})
		r := w.round(t, req)
		require.Equal(t, c.status, r.status, "%s: %s", name, r.raw)
		if c.status == 202 {
			require.Equal(t, c.kept, w.stored(t, ticketOf(t, r.header)).Call.Headers, "%s", name)
			require.NotEqual(t, "wait=5", r.header.Get("Preference-Applied"), "%s: nobody asked to wait", name)
		}
	}
}
