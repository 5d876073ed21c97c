package jobs

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
)

func outcomeOf(got egress.Outcome, now time.Time) approvals.Outcome {
	switch got.Kind {
	case egress.Answered:
		return answeredOutcome(got, now)
	case egress.NotSent:
		return approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{
			Code: "upstream_unreachable", Detail: "the upstream could not be reached; nothing was sent (" + got.ErrorClass + ")",
		}}
	case egress.Unknown:
	}
	return approvals.Outcome{Kind: approvals.Unknown, Problem: &approvals.Problem{
		Code: "no_answer", Detail: "the request was sent and no answer was seen; the call may have happened (" + got.ErrorClass + ")",
	}}
}

func answeredOutcome(got egress.Outcome, now time.Time) approvals.Outcome {
	out := approvals.Outcome{Kind: approvals.Answered, Success: got.Success, Result: &approvals.Result{
		ResultSummary: approvals.ResultSummary{
			Status: got.Status, Size: got.Size, Digest: hexDigest(got.Digest), Truncated: got.Truncated,
			DurationMS: got.Duration.Milliseconds(), ExecutedAt: now.UTC().Truncate(time.Microsecond),
		},
		Body: got.Body,
	}}
	for _, h := range got.Headers {
		out.Result.Headers = append(out.Result.Headers, approvals.Header{Name: h.Name, Value: h.Value})
	}
	if !got.Success {
		out.Problem = &approvals.Problem{Code: "upstream_error", Detail: fmt.Sprintf("the upstream answered %d", got.Status)}
	}
	return out
}

// hexDigest spells a content digest (RFC 9530) as all our digests are spelled.
func hexDigest(field string) string {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(field, "sha-256=:"), ":"))
	if err != nil {
		return field
	}
	return hex.EncodeToString(raw)
}

// verdictOf is what a call says of its upstream: answers of any kind are well, but for those
// with which something in between says that it did not get through.
func verdictOf(got egress.Outcome) db.Verdict {
	if got.Kind == egress.Answered {
		switch got.Status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return db.Unwell
		}
		return db.Well
	}
	switch got.ErrorClass {
	case egress.ErrorInvalid, egress.ErrorRefused, egress.ErrorBlocked, egress.ErrorProxy, egress.ErrorCanceled:
		return db.Nothing
	}
	return db.Unwell
}
