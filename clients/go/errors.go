package lepton

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reasons that the client itself gives or looks at. docs/errors.md of Lepton lists all; a reason that this release does
// not know is kept as it came.
const (
	ReasonUnreachable      = "UNREACHABLE"       // nothing answers at the addresses
	ReasonWorkerLost       = "WORKER_LOST"       // the stream broke in its middle
	ReasonDeadlineExceeded = "DEADLINE_EXCEEDED" // the time for the call is over
	ReasonClientGone       = "CLIENT_GONE"       // the context was cancelled or the stream closed
	ReasonStreamFault      = "STREAM_FAULT"      // the peer broke the rules of a stream
	ReasonSettingInvalid   = "SETTING_INVALID"   // an address is none
	ReasonPoisonRequest    = "POISON_REQUEST"    // workers died of this request
)

// Error is every failure of this package. Get at it with errors.As, or ask one of the predicates.
//
// It matches context.DeadlineExceeded and context.Canceled in errors.Is where those are the cause, and status.Code of
// gRPC finds its code.
type Error struct {
	// Code is the class of the error.
	Code codes.Code
	// Reason is stable and for programs; the name of the code when the status came from something else than Lepton.
	Reason string
	// Message is for people: what, where, what to do next.
	Message string
	// Field names the field of the request that is to blame, for example "sampling.top_p"; else empty.
	Field string
	// RetryAfter says when asking again may help; 0 when nothing was said.
	RetryAfter time.Duration
	// RequestID and TraceID find the call in logs and traces; empty when nobody answered.
	RequestID, TraceID string

	// ours: the details came from Lepton. Without them nobody of Lepton has answered.
	ours bool
}

func (e *Error) Error() string {
	text := e.Message
	if e.Reason != "" {
		text = fmt.Sprintf("%s (%s)", text, e.Reason)
	}
	if e.RequestID != "" {
		text = fmt.Sprintf("%s [request %s]", text, e.RequestID)
	}
	return "lepton: " + text
}

// Is makes the errors of package context match.
func (e *Error) Is(target error) bool {
	return target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded ||
		target == context.Canceled && e.Code == codes.Canceled
}

// GRPCStatus is what package status of gRPC looks for.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// IsInvalidRequest says that the request is wrong in itself; see [Error.Field].
func IsInvalidRequest(err error) bool { return hasCode(err, codes.InvalidArgument) }

// IsNotFound says that there is no such model, revision or call to resume.
func IsNotFound(err error) bool { return hasCode(err, codes.NotFound) }

// IsUnsupported says that the cluster refuses a part of the interface.
func IsUnsupported(err error) bool { return hasCode(err, codes.Unimplemented) }

// IsForbidden says that the call may not be made so: a key, token or ticket is missing or wrong.
func IsForbidden(err error) bool {
	return hasCode(err, codes.PermissionDenied) || hasCode(err, codes.Unauthenticated)
}

// IsOverloaded says that a queue is full; [Error.RetryAfter] says when to come back.
func IsOverloaded(err error) bool { return hasCode(err, codes.ResourceExhausted) }

// IsUnavailable says that nobody can answer now, or the one who did is lost.
func IsUnavailable(err error) bool { return hasCode(err, codes.Unavailable) }

// IsDeadlineExceeded says that the time for the call is over; so does errors.Is(err, context.DeadlineExceeded).
func IsDeadlineExceeded(err error) bool { return hasCode(err, codes.DeadlineExceeded) }

// IsCancelled says that the call was ended; so does errors.Is(err, context.Canceled).
func IsCancelled(err error) bool { return hasCode(err, codes.Canceled) }

// IsQuarantined says that workers died of this very request; it is refused for a while.
func IsQuarantined(err error) bool {
	var found *Error
	return errors.As(err, &found) && found.Code == codes.FailedPrecondition && found.Reason == ReasonPoisonRequest
}

// IsInternal says that the cluster failed.
func IsInternal(err error) bool {
	return hasCode(err, codes.Internal) || hasCode(err, codes.Unknown) || hasCode(err, codes.DataLoss)
}

func hasCode(err error, code codes.Code) bool {
	var found *Error
	return errors.As(err, &found) && found.Code == code
}
