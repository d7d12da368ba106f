package lepton

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

var stopped = leptonv1.FinishReason_FINISH_REASON_STOP

// whole is a stream that says "ab".
func whole(token string) []*leptonv1.Event {
	return []*leptonv1.Event{started(0, token), delta(1, 0, "a"), ended(delta(2, 0, "b"), stopped), finished(3)}
}

func TestAnAnswerIsCollected(t *testing.T) {
	router := serve(t, scene{events: whole("")})
	client, _ := dial(t, router.address)
	answer, err := client.Complete(context.Background(), "x").Collect()
	if err != nil || answer.Text() != "ab" || answer.Choices[0].Finish != FinishStop || answer.RequestID != "r1" ||
		answer.Usage.GetCompletionTokens() != 2 {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestARefusalIsTriedAgainAtAnotherRouter(t *testing.T) {
	full := refusedBy(codes.ResourceExhausted, "QUEUE_FULL", "", 300*time.Millisecond)
	first, second := serve(t, scene{err: full}), serve(t, scene{err: full})
	first.script = append(first.script, scene{events: whole("")})
	client, clock := dial(t, first.address+","+second.address)
	if _, err := client.Complete(context.Background(), "x").Collect(); err != nil {
		t.Error(err)
	}
	if len(first.asked)+len(second.asked) != 3 || len(second.asked) == 0 {
		t.Errorf("asked %d and %d times", len(first.asked), len(second.asked))
	}
	if want := []time.Duration{300 * time.Millisecond, 300 * time.Millisecond}; !slices.Equal(clock.slept, want) {
		t.Errorf("waited %v", clock.slept)
	}
}

func TestNothingIsTriedAgainAfterTheFirstEvent(t *testing.T) {
	router := serve(t, scene{events: whole("t")[:2], err: refusedBy(codes.Unavailable, "WORKER_LOST", "", 0)})
	client, _ := dial(t, router.address)
	answer, err := client.Complete(context.Background(), "x").Collect()
	if !IsUnavailable(err) || len(router.asked) != 1 || answer.Text() != "a" {
		t.Errorf("%v, asked %d times, %q", err, len(router.asked), answer.Text())
	}
}

func TestAStreamThatIsCutIsComeBackTo(t *testing.T) {
	router := serve(t,
		scene{events: whole("t")[:2], err: refusedBy(codes.Unavailable, "DRAINING", "", 0)},
		scene{err: refusedBy(codes.Unavailable, "STARTING", "", 0)},
		scene{events: whole("t")[1:]}, // from a server that repeats what is known
	)
	client, clock := dial(t, router.address, WithResume())
	answer, err := client.Complete(context.Background(), "x").Collect()
	if err != nil || answer.Text() != "ab" {
		t.Errorf("%v, %q", err, answer.Text())
	}
	if router.asked[0].GetResumableMs() != resumableMillis || router.asked[0].Resume != nil {
		t.Errorf("%v", router.asked[0])
	}
	want := &leptonv1.ResumeFrom{ResumeToken: "t", AfterSeq: proto.Uint64(1)}
	if !proto.Equal(router.asked[2].Resume, want) {
		t.Errorf("%v", router.asked[2])
	}
	if want := []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}; !slices.Equal(clock.slept, want) {
		t.Errorf("waited %v", clock.slept)
	}
}

func TestAnEndWithoutFinishedIsABreak(t *testing.T) {
	router := serve(t, scene{events: whole("t")[:2]}, scene{events: whole("t")[2:]})
	client, _ := dial(t, router.address, WithResume())
	if answer, err := client.Complete(context.Background(), "x").Collect(); err != nil || answer.Text() != "ab" {
		t.Errorf("%v, %q", err, answer.Text())
	}
	router.script = []scene{{events: whole("")[:2]}}
	if _, err := client.Complete(context.Background(), "x").Collect(); !IsUnavailable(err) {
		t.Errorf("%v", err)
	}
}

func TestLeavingAResumableCallAbortsIt(t *testing.T) {
	router := serve(t, scene{events: whole("t")[:2], hang: true}, scene{events: whole("t2")[:2], hang: true})
	client, _ := dial(t, router.address, WithResume())
	for range client.Complete(context.Background(), "x").Text() {
		break
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream := client.Complete(ctx, "x")
	_, _ = stream.Recv()
	cancel()
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if want := []string{"t", "t2"}; !slices.Equal(router.aborted, want) {
		t.Errorf("aborted %v", router.aborted)
	}
}

func TestAStreamMayBeClosedWhileItIsRead(t *testing.T) {
	router := serve(t, scene{events: whole("")[:1], hang: true})
	client, _ := dial(t, router.address)
	stream := client.Complete(context.Background(), "x")
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	go stream.Close()
	if _, err := stream.Recv(); !IsCancelled(err) {
		t.Errorf("%v", err)
	}
	stream.Close()
}

func TestTheEndIsToldAgain(t *testing.T) {
	router := serve(t, scene{events: whole("")})
	client, _ := dial(t, router.address)
	stream := client.Complete(context.Background(), "x")
	if _, err := stream.Collect(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("%v", err)
		}
	}
}

func TestAChoiceThatNobodyAskedForIsAFault(t *testing.T) {
	router := serve(t, scene{events: []*leptonv1.Event{started(0, ""), delta(1, 4_000_000_000, "x")}})
	client, _ := dial(t, router.address)
	var found *Error
	if _, err := client.Complete(context.Background(), "x").Collect(); !errors.As(err, &found) || found.Reason != ReasonStreamFault {
		t.Errorf("%v", err)
	}
}

func TestUnaryCallsAreTriedAgain(t *testing.T) {
	router := serve(t)
	router.refusals = []error{refusedBy(codes.Unavailable, "STARTING", "", 0)}
	client, _ := dial(t, router.address)
	answer, err := client.CountTokens(context.Background(), &leptonv1.CountTokensRequest{})
	if err != nil || answer.GetNumTokens() != 3 {
		t.Errorf("%v, %v", answer, err)
	}
	router.refusals = []error{refusedBy(codes.Unavailable, "STARTING", "", 0)}
	once := client.With(WithoutRetries())
	if _, err := once.CountTokens(context.Background(), &leptonv1.CountTokensRequest{}); !IsUnavailable(err) {
		t.Errorf("%v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	gone := serve(t)
	gone.server.Stop()
	client, _ := dial(t, gone.address)
	var found *Error
	if _, err := client.ListModels(context.Background()); !errors.As(err, &found) || found.Reason != ReasonUnreachable {
		t.Errorf("%v", err)
	}
	if _, err := Dial("nowhere"); !errors.As(err, &found) || found.Reason != ReasonSettingInvalid {
		t.Errorf("%v", err)
	}
}
