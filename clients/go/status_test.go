package lepton

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// refusedBy is the status with which Lepton refuses.
func refusedBy(code codes.Code, reason, field string, after time.Duration) error {
	s, err := status.New(code, "no").WithDetails(
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: reason, Metadata: map[string]string{"field": field}},
	)
	if err == nil && after > 0 {
		s, err = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func TestAnErrorSaysWhatTheClusterSaid(t *testing.T) {
	err := fromRPC(context.Background(), refusedBy(codes.ResourceExhausted, "QUEUE_FULL", "", 3*time.Second),
		"a:1", callIDs{request: "r1", trace: "t1"})
	want := Error{
		Code: codes.ResourceExhausted, Reason: "QUEUE_FULL", Message: "no", RetryAfter: 3 * time.Second,
		RequestID: "r1", TraceID: "t1", ours: true,
	}
	if *err != want {
		t.Errorf("%+v", err)
	}
	err = fromRPC(context.Background(), refusedBy(codes.InvalidArgument, "REASON_OF_TOMORROW", "sampling.n", 0), "a:1", callIDs{})
	if err.Reason != "REASON_OF_TOMORROW" || err.Field != "sampling.n" {
		t.Errorf("%+v", err)
	}
}

func TestAStatusWithoutDetails(t *testing.T) {
	for _, c := range []struct {
		code        codes.Code
		want        codes.Code
		reason      string
		unreachable bool
	}{
		{codes.Unavailable, codes.Unavailable, ReasonUnreachable, true},
		{codes.Canceled, codes.Unavailable, ReasonUnreachable, true}, // we did not cancel
		{codes.ResourceExhausted, codes.ResourceExhausted, "RESOURCE_EXHAUSTED", false},
		{codes.Unimplemented, codes.Unimplemented, "UNIMPLEMENTED", false},
		{codes.DeadlineExceeded, codes.DeadlineExceeded, ReasonDeadlineExceeded, false},
	} {
		err := fromRPC(context.Background(), status.Error(c.code, "no"), "a:1", callIDs{})
		if err.Code != c.want || err.Reason != c.reason || err.unreachable() != c.unreachable {
			t.Errorf("%v: %+v", c.code, err)
		}
	}
}

func TestWhatWeEndedIsOurs(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	torn := status.Error(codes.Unavailable, "torn")
	if err := fromRPC(cancelled, torn, "a:1", callIDs{}); !IsCancelled(err) || err.Reason != ReasonClientGone {
		t.Errorf("%+v", err)
	}
	if err := fromRPC(late, torn, "a:1", callIDs{}); !IsDeadlineExceeded(err) {
		t.Errorf("%+v", err)
	}
}

func TestErrorsAreFoundInOthers(t *testing.T) {
	err := fmt.Errorf("asking: %w", &Error{Code: codes.DeadlineExceeded, Reason: ReasonDeadlineExceeded, Message: "late"})
	var found *Error
	if !errors.As(err, &found) || found.Reason != ReasonDeadlineExceeded {
		t.Errorf("%v", found)
	}
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Error("errors.Is does not match")
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("code is %v", status.Code(err))
	}
}

func TestPredicatesAskForOneClassEach(t *testing.T) {
	predicates := map[string]func(error) bool{
		"InvalidRequest": IsInvalidRequest, "NotFound": IsNotFound, "Unsupported": IsUnsupported,
		"Forbidden": IsForbidden, "Overloaded": IsOverloaded, "Unavailable": IsUnavailable,
		"DeadlineExceeded": IsDeadlineExceeded, "Cancelled": IsCancelled, "Quarantined": IsQuarantined,
		"Internal": IsInternal,
	}
	for _, c := range []struct {
		err  Error
		want string
	}{
		{Error{Code: codes.InvalidArgument}, "InvalidRequest"},
		{Error{Code: codes.NotFound}, "NotFound"},
		{Error{Code: codes.Unimplemented}, "Unsupported"},
		{Error{Code: codes.PermissionDenied}, "Forbidden"},
		{Error{Code: codes.Unauthenticated}, "Forbidden"},
		{Error{Code: codes.ResourceExhausted}, "Overloaded"},
		{Error{Code: codes.Unavailable}, "Unavailable"},
		{Error{Code: codes.DeadlineExceeded}, "DeadlineExceeded"},
		{Error{Code: codes.Canceled}, "Cancelled"},
		{Error{Code: codes.FailedPrecondition, Reason: "POISON_REQUEST"}, "Quarantined"},
		{Error{Code: codes.Internal}, "Internal"},
		{Error{Code: codes.Unknown}, "Internal"},
	} {
		for name, holds := range predicates {
			if holds(&c.err) != (name == c.want) {
				t.Errorf("%v: Is%s is %v", c.err.Code, name, holds(&c.err))
			}
		}
	}
	for name, holds := range predicates {
		if holds(nil) || holds(errors.New("another")) {
			t.Errorf("Is%s holds for what is no Error", name)
		}
	}
}
