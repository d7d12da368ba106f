package lepton

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

func pickOf(worker *scripted, ticket string) *leptonv1.PickResponse {
	return &leptonv1.PickResponse{
		WorkerId: "w-" + ticket, Address: worker.address, Model: "m", Revision: "aa", Fingerprint: "f", Ticket: ticket,
	}
}

func TestALostWorkerIsFollowedByTheNext(t *testing.T) {
	router := serve(t)
	first := serve(t, scene{events: []*leptonv1.Event{started(0, ""), delta(1, 0, "a", 10)}}) // ends too early
	second := serve(t, scene{events: []*leptonv1.Event{
		migrated(2, ""), ended(delta(3, 0, "b", 11), stopped), finished(4),
	}})
	router.picks = []*leptonv1.PickResponse{pickOf(first, "1"), pickOf(second, "2")}
	client, _ := dial(t, router.address, WithDirect())
	stream := client.Generate(context.Background(), &leptonv1.GenerateRequest{
		Output: &leptonv1.OutputOptions{TokenIds: proto.Bool(false)},
	})
	answer, err := stream.Collect()
	if err != nil || answer.Text() != "ab" {
		t.Fatalf("%v, %+v", err, answer)
	}
	if answer.Choices[0].TokenIDs != nil {
		t.Error("ids that were not asked for")
	}
	again := router.picked[1]
	if !slices.Equal(again.FailedTickets, []string{"1"}) || again.Origin.GetWorkerId() != "w-1" {
		t.Errorf("%v", again)
	}
	if !proto.Equal(again.Request, router.picked[0].Request) || again.Request.Output.GetTokenIds() {
		t.Errorf("another request: %v", again.Request)
	}
	asked := second.asked[0]
	want := &leptonv1.Continuation{
		Choices: []*leptonv1.ContinuedChoice{{TokenIds: []uint32{10}}},
		NextSeq: 2, Seed: 7, PromptTokens: 3, CachedTokens: 2, Attempt: 1, FromWorkerId: "w-1",
	}
	if !proto.Equal(asked.Continuation, want) || !asked.Output.GetTokenIds() || asked.Revision != "aa" {
		t.Errorf("%v", asked)
	}
	if !slices.Equal(second.tickets, []string{"2"}) {
		t.Errorf("tickets %v", second.tickets)
	}
}

func TestAWorkerThatSaysNothingIsGivenUp(t *testing.T) {
	router := serve(t)
	frozen := serve(t, scene{events: []*leptonv1.Event{started(0, "")}, hang: true})
	second := serve(t, scene{events: []*leptonv1.Event{migrated(1, ""), ended(delta(2, 0, "b", 11), stopped), finished(3)}})
	router.picks = []*leptonv1.PickResponse{pickOf(frozen, "1"), pickOf(second, "2")}
	client, _ := dial(t, router.address, WithDirect())
	client.silence = 20 * time.Millisecond
	if answer, err := client.Complete(context.Background(), "x").Collect(); err != nil || answer.Text() != "b" {
		t.Errorf("%v, %+v", err, answer)
	}
}

func TestWhoDeclinesIsNotWhatHappened(t *testing.T) {
	router := serve(t)
	first := serve(t, scene{events: []*leptonv1.Event{started(0, "")}, err: refusedBy(codes.Internal, "ENGINE_FAILED", "", 0)})
	full := scene{err: refusedBy(codes.ResourceExhausted, "QUEUE_FULL", "", 0)}
	others := serve(t, full, full, full)
	router.picks = []*leptonv1.PickResponse{
		pickOf(first, "1"), pickOf(others, "2"), pickOf(others, "3"), pickOf(others, "4"),
	}
	client, _ := dial(t, router.address, WithDirect())
	_, err := client.Complete(context.Background(), "x").Collect()
	var found *Error
	if !errors.As(err, &found) || found.Reason != "ENGINE_FAILED" {
		t.Errorf("%v", err)
	}
	if len(others.asked) != 3 {
		t.Errorf("%d others were asked", len(others.asked))
	}
}

func TestTheRequestsOwnFaultMovesNothing(t *testing.T) {
	router := serve(t)
	worker := serve(t, scene{err: refusedBy(codes.InvalidArgument, "FIELD_OUT_OF_RANGE", "sampling.n", 0)})
	router.picks = []*leptonv1.PickResponse{pickOf(worker, "1"), pickOf(worker, "2")}
	client, _ := dial(t, router.address, WithDirect())
	if _, err := client.Complete(context.Background(), "x").Collect(); !IsInvalidRequest(err) || len(worker.asked) != 1 {
		t.Errorf("%v, asked %d times", err, len(worker.asked))
	}
}

func TestConnectionsToWorkersAreKeptAndBounded(t *testing.T) {
	w := newWorkers(defaultSettings())
	defer func() { _ = w.close() }()
	address := func(n int) string { return "127.0.0.1:" + string(rune('1'+n/10)) + string(rune('0'+n%10)) }
	one, _ := w.take(address(0))
	same, _ := w.take(address(0))
	if one != same {
		t.Error("two connections to one worker")
	}
	w.release(one)
	if len(w.idle) != 0 {
		t.Error("a connection in use counts as idle")
	}
	w.release(same)
	for n := range 2 * idleWorkersMax {
		peer, err := w.take(address(n))
		if err != nil {
			t.Fatal(err)
		}
		w.release(peer)
	}
	if len(w.idle) != idleWorkersMax || len(w.inUse) != 0 {
		t.Errorf("%d idle, %d in use", len(w.idle), len(w.inUse))
	}
}
