package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"countersign"
	"countersign/api"
	"countersign/approvals"
)

type contract struct {
	doc    *openapi3.T
	router routers.Router
}

var loadContract = sync.OnceValues(func() (contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(countersign.OpenAPI)
	if err != nil {
		return contract{}, err
	}
	router, err := gorillamux.NewRouter(doc)
	return contract{doc: doc, router: router}, err
})

// requireContract asserts that an answer is one that openapi.yaml allows. A request that
// was granted must itself be one that the document allows.
func requireContract(t *testing.T, req *http.Request, c call, res *http.Response, raw []byte) {
	t.Helper()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	require.NotEmpty(t, res.Header.Get("X-Request-Id"), "every answer has a request id")
	at := req.Clone(t.Context())
	at.URL.Scheme, at.URL.Host, at.Host = "", "", "" // the document's server is relative
	if parts := strings.SplitN(at.URL.Path, "/", 4); len(parts) == 4 && parts[1] == "proxy" {
		at.URL.Path, at.URL.RawPath = "/proxy/"+parts[2]+"/rest", "" // of any number of segments, which OpenAPI cannot say
	}
	route, params, err := spec.router.FindRoute(at)
	if err != nil { // no such address or method: a problem all the same
		requireSchema(t, spec, "Problem", raw)
		return
	}
	if req.Method == http.MethodHead { // the header is that of a body which is not sent
		require.Empty(t, raw, "the body of an answer to HEAD")
		return
	}
	at.Body = http.NoBody
	if c.body != "" {
		at.Body, at.ContentLength = readCloser(c.body), int64(len(c.body))
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true,
	}
	in := &openapi3filter.RequestValidationInput{Request: at, PathParams: params, Route: route, Options: options}
	if res.StatusCode < 400 {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), in),
			"%s %s was granted, but openapi.yaml does not have it", req.Method, req.URL.Path)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Options: options,
	}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out.SetBodyBytes(raw)),
		"answer %d to %s %s: %s", res.StatusCode, req.Method, req.URL.Path, raw)
}

type stringBody struct{ *strings.Reader }

func (stringBody) Close() error { return nil }

func readCloser(s string) stringBody { return stringBody{strings.NewReader(s)} }

func requireSchema(t *testing.T, spec contract, name string, raw []byte) {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(raw, &value), "decode %s", raw)
	schema := spec.doc.Components.Schemas[name].Value
	require.NoError(t, schema.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()), "%s as %s", raw, name)
}

func TestOpenAPIIsValid(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	require.Equal(t, "3.1", spec.doc.OpenAPIMajorMinor(), "version of OpenAPI")
	require.NoError(t, spec.doc.Validate(t.Context()), "validate openapi.yaml")
}

func TestEveryRouteIsInOpenAPIAndViceVersa(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setupOn(t, broken{}, func(c *api.Config) { c.Slack = http.NotFoundHandler() })
	var documented []string
	for path, item := range spec.doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(documented)
	require.Equal(t, documented, api.Routes(b.server), "addresses of the server against those of openapi.yaml")
}

func TestNoOperationIsOpenByMistake(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setupOn(t, broken{})
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !needsKey(op) {
				continue
			}
			t.Run(method+" "+path, func(t *testing.T) {
				t.Parallel()
				b.clock.move(6 * time.Second) // failed authentications are slowed down
				r := b.do(t, call{method: method, path: strings.ReplaceAll(path, "{id}", "tkt_00000000000000000000000000"), key: "csk_wrong"})
				require.Equal(t, http.StatusUnauthorized, r.status, "status")
				if method != http.MethodHead {
					requireProblem(t, r, http.StatusUnauthorized, "unauthenticated")
				}
				require.Equal(t, `Bearer realm="countersign", error="invalid_token"`, r.header.Get("Www-Authenticate"), "challenge")
			})
		}
	}
}

// needsKey reports whether an operation takes a key or token of ours, of whomever.
func needsKey(op *openapi3.Operation) bool {
	if op.Security == nil {
		return true // the document's default
	}
	return slices.ContainsFunc(*op.Security, func(s openapi3.SecurityRequirement) bool {
		_, caller := s["apiKey"]
		_, person := s["person"]
		return caller || person
	})
}

func TestQueryParametersAreThoseOfOpenAPI(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	documented := make(map[string][]string)
	for _, item := range spec.doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, p := range op.Parameters {
				if p.Value.In == "query" {
					documented[op.OperationID] = append(documented[op.OperationID], p.Value.Name)
				}
			}
		}
	}
	require.Equal(t, documented, api.QueryParameters(), "query parameters of the server against those of openapi.yaml")
}

func TestEveryProblemIsDocumented(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	var enum []string
	for _, code := range spec.doc.Components.Schemas["ProblemCode"].Value.Enum {
		text, _ := code.(string)
		enum = append(enum, text)
	}
	require.ElementsMatch(t, enum, api.ProblemCodes(), "codes of the server against the enum of openapi.yaml")
	for _, code := range enum {
		row := "| `" + code + "` | " + api.ProblemStatus(code) + " |"
		require.Contains(t, spec.doc.Info.Description, row, "the table of problems")
	}
}

func TestTheTableOfRefusedFieldsIsComplete(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	var documented []string
	for line := range strings.Lines(spec.doc.Info.Description) {
		names, fate, _ := strings.Cut(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(fate, "refused") && !strings.HasSuffix(strings.TrimSpace(fate), "otherwise refused") {
			continue
		}
		for i, part := range strings.Split(names, "`") {
			if i%2 == 1 {
				documented = append(documented, strings.ToLower(part))
			}
		}
	}
	require.ElementsMatch(t, api.RefusedFields(), documented, "fields that the front refuses against the table in openapi.yaml")
}

func TestEnumsAreThoseOfTheDomain(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	for name, want := range map[string][]string{
		"State":             words(approvals.States()),
		"CallbackState":     words(approvals.CallbackStates()),
		"EventType":         words(approvals.EventTypes()),
		"CallbackEventType": words(approvals.CallbackEvents()),
	} {
		require.ElementsMatch(t, want, words(spec.doc.Components.Schemas[name].Value.Enum), "enum %s", name)
	}
}

func words[T any](values []T) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		raw, _ := json.Marshal(v)
		out = append(out, strings.Trim(string(raw), `"`))
	}
	return out
}

func TestTicketHasExactlyTheDocumentedFields(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	want := make(map[string]bool)
	for _, part := range spec.doc.Components.Schemas["Ticket"].Value.AllOf {
		for name := range part.Value.Properties {
			want[name] = true
		}
	}
	id := b.submit(t, deletion).id(t)
	fields := func(r reply) map[string]bool {
		got := make(map[string]bool)
		for name := range r.json(t) {
			got[name] = true
		}
		return got
	}
	require.Equal(t, want, fields(b.as(t, "bo", "GET", "/v1/tickets/"+id, "")), "fields of a ticket for a person")
	delete(want, "call") // callers know what they sent
	require.Equal(t, want, fields(b.get(t, "/v1/tickets/"+id)), "fields of a ticket for its caller")
}

func TestOpenAPIIsServedAsItIs(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	r := b.do(t, call{method: "GET", path: "/openapi.yaml", key: "-"})
	require.Equal(t, http.StatusOK, r.status, "status")
	require.Equal(t, "application/yaml", r.header.Get("Content-Type"), "media type")
	require.True(t, bytes.Equal(countersign.OpenAPI, r.raw), "the document")
}

func TestCallbackPayloadsFitTheDocument(t *testing.T) {
	t.Parallel()
	spec, err := loadContract()
	require.NoError(t, err, "load openapi.yaml")
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com/x"},`, 1)).id(t)
	b.approve(t, id, "bo")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, `{"gone":true}`)
	payloads := b.payloads(t)
	require.Len(t, payloads, 1, "callbacks")
	requireSchema(t, spec, "CallbackEvent", payloads[0])
}
