package lepton

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const errorDomain = "lepton"

// fromRPC is what the peer at address meant by an error of gRPC. ctx is that of the call: what ended with it was ended
// by us.
func fromRPC(ctx context.Context, err error, address string, ids callIDs) *Error {
	from := status.Convert(err)
	found := &Error{Code: from.Code(), Message: from.Message(), RequestID: ids.request, TraceID: ids.trace}
	for _, detail := range from.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				found.ours = true
				found.Reason = detail.GetReason()
				found.Field = detail.GetMetadata()["field"]
			}
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if found.ours {
		return found
	}
	if ctx.Err() != nil {
		return contextError(ctx, ids)
	}
	switch found.Code {
	case codes.Unavailable, codes.Canceled: // cancelled, and not by us: the connection was torn down
		found.Code, found.Reason = codes.Unavailable, ReasonUnreachable
		found.Message = fmt.Sprintf("nothing answers at %s: %s", address, from.Message())
	default: // a proxy, or gRPC itself
		found.Reason = code.Code(found.Code).String()
	}
	return found
}

// contextError is why a context has ended.
func contextError(ctx context.Context, ids callIDs) *Error {
	found := &Error{
		Code: codes.Canceled, Reason: ReasonClientGone, Message: "the call was cancelled",
		RequestID: ids.request, TraceID: ids.trace,
	}
	if ctx.Err() == context.DeadlineExceeded {
		found.Code, found.Reason = codes.DeadlineExceeded, ReasonDeadlineExceeded
		found.Message = "the time for the call is over"
	}
	return found
}

// unreachable says that no process of Lepton has answered.
func (e *Error) unreachable() bool { return e.Code == codes.Unavailable && !e.ours }
