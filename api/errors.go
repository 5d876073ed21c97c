package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/db"
)

// Codes of problems, as the clients see them.
const (
	codeBadRequest           = "bad_request"
	codeMalformedJSON        = "malformed_json"
	codeInvalidBody          = "invalid_body"
	codeInvalidParameter     = "invalid_parameter"
	codeInvalidHeader        = "invalid_header"
	codeKeyMissing           = "idempotency_key_missing"
	codeKeyInvalid           = "idempotency_key_invalid"
	codeBadPageToken         = "bad_page_token"
	codeUnauthenticated      = "unauthenticated"
	codeUpstreamNotAllowed   = "upstream_not_allowed"
	codeUpstreamMethod       = "upstream_method_not_allowed"
	codeScopeMissing         = "scope_missing"
	codeNotACaller           = "not_a_caller"
	codeNotAPerson           = "not_a_person"
	codeNotRequester         = "not_requester"
	codeNotOperator          = "not_operator"
	codeCallerNotOpen        = "caller_not_open"
	codeSelfApproval         = "self_approval"
	codeNotApprover          = "not_approver"
	codeAway                 = "away"
	codeNotFound             = "not_found"
	codeMethodNotAllowed     = "method_not_allowed"
	codeNotAcceptable        = "not_acceptable"
	codeKeyInProgress        = "idempotency_in_progress"
	codeAlreadyFinal         = "already_final"
	codeNoResult             = "no_result"
	codeDenied               = "denied"
	codeCancelled            = "cancelled"
	codeBindingViolation     = "binding_violation"
	codeCallFailed           = "call_failed"
	codeUpstreamUnreachable  = "upstream_unreachable"
	codeAnswerTruncated      = "answer_truncated"
	codeOutcomeUnknown       = "outcome_unknown"
	codeConflict             = "conflict"
	codeExpired              = "expired"
	codeAlreadyDecided       = "already_decided"
	codeNotNeeded            = "not_needed"
	codeNeededLater          = "needed_later"
	codeStale                = "stale"
	codeDigestMismatch       = "digest_mismatch"
	codePreconditionFailed   = "precondition_failed"
	codeBodyTooLarge         = "body_too_large"
	codeUnsupportedMediaType = "unsupported_media_type"
	codeValidationFailed     = "validation_failed"
	codeCallInvalid          = "call_invalid"
	codeCallbackRefused      = "callback_refused"
	codeCallbackUnverified   = "callback_unverified"
	codeEndpointDisabled     = "endpoint_disabled"
	codeCommentRequired      = "comment_required"
	codePlanUnsatisfiable    = "plan_unsatisfiable"
	codeKeyReused            = "idempotency_key_reused"
	codeQuotaExceeded        = "quota_exceeded"
	codeInternal             = "internal"
	codeOverloaded           = "overloaded"
	codeUnavailable          = "unavailable"
	codeNotReady             = "not_ready"
)

// The problem types that IANA registers.
const (
	typeQuota   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeReduced = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// problemKind is what all problems of one code have in common. An empty typ stands for
// "/problems/" and the code with hyphens.
type problemKind struct {
	status int
	title  string
	typ    string
}

// problemKinds is the one table of codes, statuses and titles. The tests compare it with
// openapi.yaml.
var problemKinds = map[string]problemKind{
	codeBadRequest:           {http.StatusBadRequest, "The request is malformed", ""},
	codeMalformedJSON:        {http.StatusBadRequest, "The request body is not strict JSON", ""},
	codeInvalidBody:          {http.StatusBadRequest, "The request body does not fit the schema", ""},
	codeInvalidParameter:     {http.StatusBadRequest, "A query parameter is not valid", ""},
	codeInvalidHeader:        {http.StatusBadRequest, "A header field is not valid", ""},
	codeKeyMissing:           {http.StatusBadRequest, "The Idempotency-Key header is missing", ""},
	codeKeyInvalid:           {http.StatusBadRequest, "The Idempotency-Key header is not valid", ""},
	codeBadPageToken:         {http.StatusBadRequest, "The page token is not valid", ""},
	codeUnauthenticated:      {http.StatusUnauthorized, "A valid key or token is needed", ""},
	codeUpstreamNotAllowed:   {http.StatusForbidden, "This caller may not use that upstream", ""},
	codeUpstreamMethod:       {http.StatusForbidden, "The upstream is not open for that method", ""},
	codeScopeMissing:         {http.StatusForbidden, "The key is not for that", ""},
	codeDenied:               {http.StatusForbidden, "The call was denied", ""},
	codeNotACaller:           {http.StatusForbidden, "Only callers can do that", ""},
	codeNotAPerson:           {http.StatusForbidden, "Only people can do that", ""},
	codeNotRequester:         {http.StatusForbidden, "Only the requester's own people can do that", ""},
	codeNotOperator:          {http.StatusForbidden, "Only operators can do that", ""},
	codeCallerNotOpen:        {http.StatusForbidden, "Calls of that caller are not yours to explain", ""},
	codeSelfApproval:         {http.StatusForbidden, "The requester's own people cannot decide", ""},
	codeNotApprover:          {http.StatusForbidden, "Not an approver of this stage", ""},
	codeAway:                 {http.StatusForbidden, "Marked as away", ""},
	codeNotFound:             {http.StatusNotFound, "Not found", ""},
	codeMethodNotAllowed:     {http.StatusMethodNotAllowed, "That method is not allowed here", ""},
	codeNotAcceptable:        {http.StatusNotAcceptable, "No representation fits the Accept header", ""},
	codeKeyInProgress:        {http.StatusConflict, "The first request with this Idempotency-Key is still running", ""},
	codeAlreadyFinal:         {http.StatusConflict, "The ticket has already ended", ""},
	codeNoResult:             {http.StatusConflict, "The ticket ended without an upstream answer", ""},
	codeCancelled:            {http.StatusConflict, "The call was withdrawn", ""},
	codeBindingViolation:     {http.StatusConflict, "The call changed after it was approved", ""},
	codeConflict:             {http.StatusConflict, "The ticket has moved on", ""},
	codeExpired:              {http.StatusConflict, "A deadline has passed", ""},
	codeAlreadyDecided:       {http.StatusConflict, "Already decided by this person", ""},
	codeNotNeeded:            {http.StatusConflict, "The approval would not be counted", ""},
	codeNeededLater:          {http.StatusConflict, "The approval is needed in a later stage", ""},
	codeStale:                {http.StatusConflict, "That stage is over", ""},
	codeDigestMismatch:       {http.StatusConflict, "The ticket holds something else", ""},
	codePreconditionFailed:   {http.StatusPreconditionFailed, "The ticket has changed", ""},
	codeBodyTooLarge:         {http.StatusRequestEntityTooLarge, "The request body is too large", ""},
	codeUnsupportedMediaType: {http.StatusUnsupportedMediaType, "The request body must be plain application/json", ""},
	codeValidationFailed:     {http.StatusUnprocessableEntity, "A value is not acceptable", ""},
	codeCallInvalid:          {http.StatusUnprocessableEntity, "The call cannot be sent", ""},
	codeCallbackRefused:      {http.StatusUnprocessableEntity, "The callback URL is refused", ""},
	codeCallbackUnverified:   {http.StatusUnprocessableEntity, "The callback endpoint is not verified", ""},
	codeEndpointDisabled:     {http.StatusConflict, "The callback endpoint is disabled", ""},
	codeCommentRequired:      {http.StatusUnprocessableEntity, "A comment is needed", ""},
	codePlanUnsatisfiable:    {http.StatusUnprocessableEntity, "Nobody could approve this call", ""},
	codeKeyReused:            {http.StatusUnprocessableEntity, "The Idempotency-Key belongs to another request", ""},
	codeQuotaExceeded:        {http.StatusTooManyRequests, "A quota is used up", typeQuota},
	codeInternal:             {http.StatusInternalServerError, "Something went wrong on our side", ""},
	codeCallFailed:           {http.StatusBadGateway, "The call could not be made", ""},
	codeUpstreamUnreachable:  {http.StatusBadGateway, "The upstream could not be reached", ""},
	codeAnswerTruncated:      {http.StatusBadGateway, "The upstream's answer is not all there", ""},
	codeOutcomeUnknown:       {http.StatusGatewayTimeout, "The call may have been made", ""},
	codeOverloaded:           {http.StatusServiceUnavailable, "Too much at once", typeReduced},
	codeUnavailable:          {http.StatusServiceUnavailable, "Temporarily unavailable", typeReduced},
	codeNotReady:             {http.StatusServiceUnavailable, "Not ready", typeReduced},
}

func (k problemKind) uri(code string) string {
	if k.typ != "" {
		return k.typ
	}
	return "/problems/" + strings.ReplaceAll(code, "_", "-")
}

// failure is a problem on its way to the client. What it holds is fit for them, except
// cause, which goes to the log only.
type failure struct {
	code     string
	detail   string
	errors   []ProblemItem
	allowed  []string
	state    approvals.State
	instance string // what it is about; "": the address that was asked for
	violated []string
	header   http.Header
	cause    error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.code + ": " + f.cause.Error()
	}
	return f.code + ": " + f.detail
}

func (f *failure) Unwrap() error { return f.cause }

func fail(code, format string, args ...any) *failure {
	return &failure{code: code, detail: fmt.Sprintf(format, args...)}
}

// failItems is a failure about several places; its detail is that of the first, which names
// the header field that it is about.
func failItems(code string, items []ProblemItem) *failure {
	return &failure{code: code, detail: sentence(items[0]), errors: items}
}

// headerPointer begins the pointers to header fields of a call in a submit.
const headerPointer = "#/headers/"

// sentence is what is wrong with a place, understood without seeing the place. Most details
// name what they are about; those about header fields leave it to the place.
func sentence(it ProblemItem) string {
	field, pointed := strings.CutPrefix(it.Pointer, headerPointer)
	if !pointed {
		field = it.Header
	}
	if field == "" || strings.HasPrefix(strings.ToLower(it.Detail), strings.ToLower(field)+" ") {
		return it.Detail
	}
	return "header field " + field + ": " + it.Detail
}

func (f *failure) with(name, value string) *failure {
	if f.header == nil {
		f.header = make(http.Header)
	}
	f.header.Set(name, value)
	return f
}

func (f *failure) retryAfter(d time.Duration) *failure {
	return f.with("Retry-After", seconds(d))
}

func (f *failure) because(err error) *failure {
	f.cause = err
	return f
}

// seconds renders a duration in whole seconds, rounded up, at least 1.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// failureOf classifies any error. What it does not know is internal.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var domain *approvals.Error
	if errors.As(err, &domain) {
		return domainFailure(domain)
	}
	var framework *echo.HTTPError
	if errors.As(err, &framework) {
		return frameworkFailure(framework)
	}
	return storeFailure(err)
}

// domainCodes are the refusals of the domain that clients can cause, each under its own
// word but one.
var domainCodes = map[approvals.Code]string{
	approvals.CodeAlreadyFinal:    codeAlreadyFinal,
	approvals.CodeConflict:        codeConflict,
	approvals.CodeExpired:         codeExpired,
	approvals.CodeAlreadyDecided:  codeAlreadyDecided,
	approvals.CodeNotNeeded:       codeNotNeeded,
	approvals.CodeNeededLater:     codeNeededLater,
	approvals.CodeStale:           codeStale,
	approvals.CodeDigestMismatch:  codeDigestMismatch,
	approvals.CodeSelfApproval:    codeSelfApproval,
	approvals.CodeNotOperator:     codeNotOperator,
	approvals.CodeNotRequester:    codeNotRequester,
	approvals.CodeNotApprover:     codeNotApprover,
	approvals.CodeAway:            codeAway,
	approvals.CodeCommentRequired: codeCommentRequired,
	approvals.CodeInvalid:         codeValidationFailed,
	approvals.CodeUnsatisfiable:   codePlanUnsatisfiable,
}

// domainFailure renders a refusal of the domain. What clients cannot cause is a fault of
// ours.
func domainFailure(e *approvals.Error) *failure {
	if e.Code == approvals.CodeNotFound {
		return noTicket()
	}
	if code, known := domainCodes[e.Code]; known {
		return fail(code, "%s", e.Message)
	}
	return internal(e)
}

func storeFailure(err error) *failure {
	var over *db.QuotaError
	switch {
	case errors.As(err, &over):
		return tooManyOpen(over.Open)
	case errors.Is(err, db.ErrEndpointDisabled):
		return fail(codeEndpointDisabled, "nothing is sent to this callback endpoint until somebody enables it")
	case errors.Is(err, ErrEndpointGone):
		return fail(codeConflict, "%v", ErrEndpointGone)
	case errors.Is(err, ErrEndpointUnverified):
		return fail(codeConflict, "%v", ErrEndpointUnverified)
	case errors.Is(err, db.ErrKeyReused):
		return fail(codeKeyReused, "this Idempotency-Key was used before with another request; choose a new one")
	case errors.Is(err, db.ErrKeyInProgress):
		return fail(codeKeyInProgress, "the first request with this Idempotency-Key is still running").retryAfter(time.Second)
	case errors.Is(err, db.ErrOverloaded):
		return fail(codeOverloaded, "too many submits are waiting; nothing was done").retryAfter(time.Second)
	case errors.Is(err, db.ErrUnavailable):
		return fail(codeUnavailable, "the database cannot be reached").retryAfter(5 * time.Second).because(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fail(codeUnavailable, "the answer took too long").retryAfter(5 * time.Second).because(err)
	}
	return internal(err)
}

// frameworkFailure renders what echo and the generated code refuse by themselves.
func frameworkFailure(e *echo.HTTPError) *failure {
	switch e.Code {
	case http.StatusNotFound:
		return fail(codeNotFound, "there is nothing at this address")
	case http.StatusMethodNotAllowed:
		return fail(codeMethodNotAllowed, "this address does not take that method")
	case http.StatusRequestEntityTooLarge:
		return fail(codeBodyTooLarge, "the request body is over the limit")
	case http.StatusUnsupportedMediaType:
		return fail(codeUnsupportedMediaType, "the request body must be application/json")
	case http.StatusServiceUnavailable:
		return fail(codeUnavailable, "the answer took too long").retryAfter(5 * time.Second).because(e)
	case http.StatusBadRequest:
		return fail(codeBadRequest, "a parameter of the request is malformed").because(e)
	}
	return internal(e)
}

func internal(err error) *failure {
	return fail(codeInternal, "the request could not be handled; quote the request id when you report it").because(err)
}

func noTicket() *failure { return fail(codeNotFound, "there is no such ticket") }
