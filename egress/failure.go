package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// Classes of what went wrong, in Outcome and AttemptResult. They are stable words for audit, metrics and callers.
const (
	ErrorInvalid    = "invalid_request"   // the request or the configuration broke a rule; nothing was dialled
	ErrorRefused    = "refused"           // beforeDial said no; nothing was dialled
	ErrorBlocked    = "blocked"           // the egress policy said no
	ErrorProxy      = "proxy"             // our own forward proxy failed or refused; nothing of the request was sent
	ErrorDNS        = "dns"               // the name could not be resolved
	ErrorConnect    = "connect"           // no connection
	ErrorTLS        = "tls"               // no TLS handshake, or a certificate we do not trust
	ErrorTimeout    = "timeout"           // the deadline passed
	ErrorCanceled   = "canceled"          // our own side gave up, as at shutdown
	ErrorReset      = "reset"             // the connection ended before an answer
	ErrorProtocol   = "protocol"          // the answer was not HTTP, or beyond the limits on its head
	ErrorIncomplete = "answer_incomplete" // the head came, the body broke off
	ErrorTooLarge   = "answer_too_large"  // the body was cut at the limit
	ErrorEncoded    = "answer_encoded"    // the body was withheld: it was compressed though we asked for none
	ErrorStatus     = "http_status"       // an answer outside 2xx; callbacks only
	ErrorConsent    = "no_consent"        // an answer that does not ask for callbacks; challenges only
)

// failureClass names an error of an exchange whose answer never came.
func failureClass(err error) string {
	switch {
	case errors.Is(err, ErrBlocked):
		return ErrorBlocked
	case errors.Is(err, context.Canceled):
		return ErrorCanceled
	case is[*proxyError](err): // before what it wraps
		return ErrorProxy
	case is[*net.DNSError](err):
		return ErrorDNS
	case isTimeout(err): // of the handshake, too
		return ErrorTimeout
	case isTLS(err):
		return ErrorTLS
	case isDial(err):
		return ErrorConnect
	case isReset(err):
		return ErrorReset
	default:
		return ErrorProtocol
	}
}

// withCause adds that the context had ended: net/http may report what the end of the connection did to its parser instead.
func withCause(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, errTargetUnreached) || ok && op.Op == "dial"
}

func isTLS(err error) bool {
	return is[*handshakeError](err) || is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err)
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func isReset(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, errSealed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// cleanError is an error without secrets in its text. It can be compared with errors.Is but not unwrapped: errors of
// net/http quote what the server said.
type cleanError struct {
	text string
	err  error
}

// maxErrorText bounds what a server can write into our log: a malformed header is quoted in full.
const maxErrorText = 1 << 10

func shorten(text string) string {
	if len(text) <= maxErrorText {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorText], "") + " (shortened)"
}

// cause keeps an error as it is unless its text has a secret in it, or is too long to log.
func (s scrubber) cause(err error) error {
	if err == nil {
		return nil
	}
	text, changed := s.text(err.Error())
	if !changed && len(text) <= maxErrorText {
		return err
	}
	return &cleanError{text: shorten(text), err: err}
}

func (e *cleanError) Error() string        { return e.text }
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
