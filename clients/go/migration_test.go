package lepton

import (
	"testing"

	"google.golang.org/grpc/codes"
)

func TestWhatABreakMeans(t *testing.T) {
	for _, c := range []struct {
		err        Error
		midway     breakKind
		beforeWord breakKind
	}{
		{Error{Code: codes.Unavailable, Reason: "WORKER_LOST"}, loss, loss},
		{Error{Code: codes.Internal, Reason: "ENGINE_FAILED"}, loss, loss},
		{Error{Code: codes.Internal, Reason: "STREAM_FAULT"}, loss, loss},
		{Error{Code: codes.Internal, Reason: "MODEL_OUTPUT_INVALID"}, final, final},
		{Error{Code: codes.Unavailable, Reason: "DRAINING"}, handOver, refusal},
		{Error{Code: codes.ResourceExhausted, Reason: "QUEUE_FULL"}, loss, refusal},
		{Error{Code: codes.PermissionDenied, Reason: "TICKET_EXPIRED"}, final, refusal},
		{Error{Code: codes.PermissionDenied, Reason: "TICKET_INVALID"}, final, final},
		{Error{Code: codes.Unimplemented, Reason: "CONTINUATION_UNSUPPORTED"}, final, refusal},
		{Error{Code: codes.InvalidArgument, Field: "continuation.next_seq"}, final, refusal},
		{Error{Code: codes.InvalidArgument, Field: "sampling.n"}, final, final},
		{Error{Code: codes.DeadlineExceeded}, final, final},
		{Error{Code: codes.Canceled, Reason: "SLOW_READER"}, final, final},
		{Error{Code: codes.FailedPrecondition, Reason: "POISON_REQUEST"}, final, final},
	} {
		if got := breakOf(&c.err, false); got != c.midway {
			t.Errorf("%s %s midway: %v", c.err.Code, c.err.Reason, got)
		}
		if got := breakOf(&c.err, true); got != c.beforeWord {
			t.Errorf("%s %s before its first word: %v", c.err.Code, c.err.Reason, got)
		}
	}
}

func TestMovesAreBoundedByWhy(t *testing.T) {
	for how, most := range map[breakKind]int{final: 0, loss: lossesMax, handOver: handOversMax, refusal: refusalsMax} {
		m := moves{}
		made := 0
		for m.allow(how) {
			made++
		}
		if made != most {
			t.Errorf("kind %v: %d moves", how, made)
		}
		if how == refusal && m.attempt() != 0 {
			t.Error("a refusal is no attempt")
		}
	}
}
