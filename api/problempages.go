package api

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// problemHelp is what the page of a problem says besides its title.
type problemHelp struct{ meaning, advice string }

// sameAgain is advice for what passes by itself.
const sameAgain = "Wait as long as Retry-After says and send the same request again, with the same Idempotency-Key."

// problemTexts are the pages of all problems: those that requests are answered with, and
// those that tickets end with.
var problemTexts = map[string]problemHelp{
	codeBadRequest:           {"The request does not follow HTTP, or one of its parameters cannot be read.", "Correct the request. Nothing was done."},
	codeMalformedJSON:        {"The body is not strict JSON: syntax, duplicate names, invalid UTF-8, data after the value, or too deep.", "Correct the body; errors says where it breaks. The Idempotency-Key is still free."},
	codeInvalidBody:          {"A field of the body is unknown, missing, or of another type.", "Compare the body with the schema in /openapi.yaml; errors lists every place."},
	codeInvalidParameter:     {"A query parameter is unknown, repeated, empty or malformed.", "Correct the parameter that errors names."},
	codeInvalidHeader:        {"A header field is malformed, or is no field of ours although its name says so.", "Correct the field that errors names."},
	codeKeyMissing:           {"A call that changes something must be told apart from the same call made twice, and the request has no Idempotency-Key.", "Make a new random key for each call that is meant to be made, and send the same key again when you send the same call again."},
	codeKeyInvalid:           {"The Idempotency-Key is empty, too long, given twice, or holds characters that it may not.", "Use 1 to 255 printable ASCII characters, such as a UUID."},
	codeBadPageToken:         {"The page token was not made by this service for this list, or the filters have changed.", "Begin the list again without a page token."},
	codeUnauthenticated:      {"The request has no key or token that is valid here and now.", "Send the key as Authorization: Bearer …. A key may have expired, been removed, or be bound to other networks."},
	codeUpstreamNotAllowed:   {"No upstream of that name is open to this caller. Whether another caller may use one is not said.", "allowed lists what may be asked for. Whoever keeps the configuration can open more."},
	codeUpstreamMethod:       {"The upstream is not open for that method.", "allowed lists the methods."},
	codeScopeMissing:         {"The key is good, and not for that.", "Use a key that has the scope named in the detail."},
	codeNotACaller:           {"Only callers submit and cancel; the request came with the key or token of a person.", "Use the key of a caller, csk_…."},
	codeNotAPerson:           {"Only people decide, ask and resolve; the request came with the key of a caller.", "Use a personal key, csp_…, or a token of the identity provider."},
	codeNotRequester:         {"Only the requester's own people can do that.", "Ask an owner of the caller, or the person it acts for."},
	codeNotOperator:          {"Only operators can do that.", "Ask an operator."},
	codeCallerNotOpen:        {"Calls of that caller are not yours to explain.", "Ask about a caller that you own."},
	codeSelfApproval:         {"The requester's own people cannot decide on their call.", "Let somebody else decide."},
	codeNotApprover:          {"The person is not an approver of the stage that the ticket is at.", "waiting_for of the ticket names those who are."},
	codeAway:                 {"The person is marked as away; their delegate decides.", "Let the delegate decide, or end the absence in the configuration."},
	codeDenied:               {"An approver, or a rule, has refused the call. It was not made.", "Read the decisions of the ticket. A new submit is a new ticket."},
	codeNotFound:             {"There is nothing at that address, or nothing that you may know of.", "Check the address, and whose ticket it is."},
	codeMethodNotAllowed:     {"The address exists and does not take that method.", "Allow lists the methods that it takes."},
	codeNotAcceptable:        {"The representation that Accept asks for is not offered.", "Leave Accept out, or add application/json."},
	codeKeyInProgress:        {"The first request with this Idempotency-Key is still being worked on.", sameAgain},
	codeAlreadyFinal:         {"The ticket has ended, and what has ended cannot be changed.", "Read the ticket; submit a new one if the call is still wanted."},
	codeNoResult:             {"The ticket ended without an answer of the upstream that could be shown.", "error of the ticket says why it ended."},
	codeCancelled:            {"The caller withdrew the call, or another ticket took its place. It was not made.", "Submit again if the call is still wanted."},
	codeBindingViolation:     {"What would have been sent was not what was approved: the request, its upstream or the policy had changed. Nothing was sent.", "Submit again, so that the call is approved as it is now."},
	codeCallFailed:           {"The call was not made, for a reason on our side or in the request.", "The detail says why; error of the ticket keeps it."},
	codeUpstreamUnreachable:  {"The upstream could not be connected to, several times. Nothing was sent.", "It is safe to submit the call again once the upstream is back."},
	codeAnswerTruncated:      {"The upstream answered with more than is kept, or its answer broke off. The call was made.", "Do not repeat the call for this reason. What is there of the answer can be read at the result of the ticket."},
	codeOutcomeUnknown:       {"The call was sent, or may have been, and no answer was seen. It may have had its effect.", "Do not repeat it before you have looked at the upstream. An operator can say what became of it."},
	codeConflict:             {"The ticket has moved on since it was looked at.", "Read the ticket again and decide anew."},
	codeExpired:              {"A deadline passed before the call was decided on, or begun. It was not made.", "Submit again if the call is still wanted."},
	codeAlreadyDecided:       {"The person has decided already, and one person counts once.", "Nothing is to be done."},
	codeNotNeeded:            {"The sets that the person belongs to have their approvals.", "Others are waited for: see waiting_for."},
	codeNeededLater:          {"The person's only useful approval is in a later stage, and one person counts once.", "Approve when that stage is reached."},
	codeStale:                {"The decision is about a stage that is over.", "Read the ticket again."},
	codeDigestMismatch:       {"What was decided on is not what the ticket holds.", "Read the ticket and decide on the digest it has."},
	codePreconditionFailed:   {"The ticket is not at the version in If-Match.", "Read the ticket again; its ETag is the version."},
	codeBodyTooLarge:         {"The body is larger than this service takes.", "Send less. The limit is server.max_body of the configuration."},
	codeUnsupportedMediaType: {"The body must be application/json in UTF-8, without a content coding.", "Set Content-Type: application/json and send the body as it is."},
	codeValidationFailed:     {"A value is well formed and breaks a limit or a rule.", "errors says which value, and what is wrong with it."},
	codeCallInvalid:          {"The call could not be sent as it stands: its path, query, header fields or body. Nothing is ever tidied up, so that what people approve is what is sent.", "errors says what is refused and why."},
	codeCallbackRefused:      {"The callback URL is malformed, or not under a callback origin of this caller.", "Use a URL under a configured origin. Origins are compared by scheme, host and port."},
	codeCallbackUnverified:   {"The callback endpoint has not shown yet that it wants these callbacks.", "It is being asked. Have it answer endpoint.verification with the challenge, or ask again by POST /v1/callback-endpoints/{id}/verify, and submit again."},
	codeEndpointDisabled:     {"The callback endpoint is disabled, by somebody or because it kept failing. What is due to it is held.", "Set the receiver right, enable the endpoint by POST /v1/callback-endpoints/{id}/enable, and try again."},
	codeCommentRequired:      {"The rule asks for a comment with that decision.", "Say why, in comment."},
	codePlanUnsatisfiable:    {"A rule matches and nobody could ever meet it, so no ticket was opened.", "Show the detail to whoever keeps the policy; POST /v1/explain says who could approve what."},
	codeKeyReused:            {"The Idempotency-Key was used before with another request.", "Make a new key. If you meant the same call, send exactly what you sent before."},
	codeQuotaExceeded:        {"A quota is used up; violated-policies names it.", sameAgain},
	codeInternal:             {"A fault of ours.", "Report it with the request_id. With an Idempotency-Key it is safe to try again."},
	codeOverloaded:           {"Too much came at once; nothing was done.", sameAgain},
	codeUnavailable:          {"The database or an identity provider cannot be reached, or an answer took too long.", sameAgain},
	codeNotReady:             {"The service is starting, or shutting down.", sameAgain},

	"denied_by_policy":       {"A rule refuses this call, or none allows it. Nobody was asked and it was not made.", "POST /v1/explain says which rule it was and why."},
	"approval_stale":         {"The call was approved and not begun before its approval went stale. It was not made.", "Submit again if the call is still wanted."},
	"approval_withdrawn":     {"Somebody who had approved may not any more, and the rule ends such a ticket. The call was not made.", "Submit again, so that others approve."},
	"policy_tightened":       {"Today's policy demands more than was approved, and the rule ends such a ticket. The call was not made.", "Submit again under the policy that is in force."},
	"superseded":             {"Another ticket of the same caller took this one's place. The call was not made.", "superseded_by of the ticket names the other one."},
	"resolved_as_failed":     {"The outcome was in doubt, and an operator found that the call failed.", "The ticket's trail says how they know."},
	"upstream_error":         {"The upstream answered with a status that does not count as success.", "Its answer is the result of the ticket."},
	"request_invalid":        {"The request breaks a rule of the upstream or of HTTP. Nothing was sent.", "Submit the call in a form that can be sent."},
	"no_answer":              {"The request was sent and no answer was seen. The call may have had its effect.", "Do not repeat it before you have looked at the upstream."},
	"worker_lost":            {"The process that made the call died before it could record an answer. The call may have had its effect.", "Do not repeat it before you have looked at the upstream."},
	"credential_unavailable": {"The upstream's credential could not be had. Nothing was sent.", "Whoever keeps the configuration can find the reason in the log. It is safe to submit the call again."},
}

// problemTitle is the title of a problem, of a request's or a ticket's.
func problemTitle(code string) string {
	if kind, known := problemKinds[code]; known {
		return kind.title
	}
	return titleOf(code)
}

// problemPage explains a problem to whoever follows its type. It says nothing of any ticket
// and needs no key.
func (s *Server) problemPage(c echo.Context) error {
	code := strings.ReplaceAll(c.Param("code"), "-", "_")
	text, known := problemTexts[code]
	if !known || strings.Contains(c.Param("code"), "_") {
		return fail(codeNotFound, "there is no problem of that name")
	}
	page := ProblemPage{
		Type: "/problems/" + c.Param("code"), Code: code, Title: problemTitle(code),
		Status: problemKinds[code].status, Meaning: text.meaning, Advice: text.advice,
	}
	c.Response().Header().Set("Vary", "Accept")
	accept := c.Request().Header.Get("Accept")
	if accept != "" && !accepts(accept, "text", "html") && accepts(accept, "application", "json") {
		return writePage(c, "application/json", func(b *bytes.Buffer) error { return json.NewEncoder(b).Encode(page) })
	}
	return writePage(c, "text/html; charset=utf-8", func(b *bytes.Buffer) error { return problemTemplate.Execute(b, page) })
}

func writePage(c echo.Context, media string, render func(*bytes.Buffer) error) error {
	var b bytes.Buffer
	if err := render(&b); err != nil {
		return internal(err)
	}
	h := c.Response().Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "public, max-age=3600")
	c.Response().WriteHeader(http.StatusOK)
	_, err := c.Response().Write(b.Bytes())
	return err
}

var problemTemplate = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title></head>
<body>
<h1>{{.Title}}</h1>
<p><code>{{.Code}}</code>{{with .Status}}, status {{.}}{{end}}</p>
<p>{{.Meaning}}</p>
<h2>What to do</h2>
<p>{{.Advice}}</p>
<p>All problems are listed in <a href="/openapi.yaml">/openapi.yaml</a>.</p>
</body>
</html>
`))
