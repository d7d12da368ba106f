package lepton

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

func started(seq uint64, token string) *leptonv1.Event {
	return &leptonv1.Event{Seq: seq, Kind: &leptonv1.Event_Started{Started: &leptonv1.Started{
		RequestId: "r1", ResumeToken: token, Seed: 7, PromptTokens: 3, CachedTokens: 2,
	}}}
}

func delta(seq uint64, index uint32, text string, ids ...uint32) *leptonv1.Event {
	return &leptonv1.Event{Seq: seq, Kind: &leptonv1.Event_Delta{Delta: &leptonv1.Delta{
		Index: index, Text: text, TokenIds: ids,
	}}}
}

func ended(event *leptonv1.Event, reason leptonv1.FinishReason) *leptonv1.Event {
	event.GetDelta().End = &leptonv1.ChoiceEnd{Reason: reason}
	return event
}

func migrated(seq uint64, token string) *leptonv1.Event {
	return &leptonv1.Event{Seq: seq, Kind: &leptonv1.Event_Migrated{Migrated: &leptonv1.Migrated{ResumeToken: token}}}
}

func finished(seq uint64, choices ...*leptonv1.ChoiceEnd) *leptonv1.Event {
	return &leptonv1.Event{Seq: seq, Kind: &leptonv1.Event_Finished{Finished: &leptonv1.Finished{
		Usage: &leptonv1.Usage{CompletionTokens: 2}, Choices: choices,
	}}}
}

func lost() *Error { return &Error{Code: codes.Unavailable, Reason: ReasonWorkerLost} }

func TestEveryEventOnceAndInOrder(t *testing.T) {
	p := progressOf(&leptonv1.GenerateRequest{})
	for _, event := range []*leptonv1.Event{started(0, "t1"), delta(1, 0, "a"), delta(2, 0, "b")} {
		if isNew, err := p.take(event); !isNew || err != nil {
			t.Fatalf("event %d: %v, %v", event.Seq, isNew, err)
		}
	}
	for seq := range uint64(3) {
		if isNew, err := p.take(delta(seq, 0, "again")); isNew || err != nil {
			t.Errorf("event %d again: %v, %v", seq, isNew, err)
		}
	}
	if _, err := p.take(delta(4, 0, "d")); err == nil || err.Reason != ReasonStreamFault {
		t.Errorf("a gap: %v", err)
	}
}

func TestTheWayBackIsTheLastTokenAndSeq(t *testing.T) {
	p := progressOf(&leptonv1.GenerateRequest{})
	for _, event := range []*leptonv1.Event{started(0, "t1"), migrated(1, "t2"), delta(2, 0, "a")} {
		if _, err := p.take(event); err != nil {
			t.Fatal(err)
		}
	}
	want := &leptonv1.ResumeFrom{ResumeToken: "t2", AfterSeq: proto.Uint64(2)}
	if got := p.resumeFrom(); !proto.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestAResumptionOfTheCallersOwnBeginsThere(t *testing.T) {
	p := progressOf(&leptonv1.GenerateRequest{
		Resume: &leptonv1.ResumeFrom{ResumeToken: "t1", AfterSeq: proto.Uint64(4)},
	})
	if isNew, err := p.take(delta(5, 0, "f")); !isNew || err != nil {
		t.Errorf("%v, %v", isNew, err)
	}
}

func TestFiveResumptionsWithoutProgress(t *testing.T) {
	p := progressOf(&leptonv1.GenerateRequest{})
	if p.broke(lost()) {
		t.Error("came back without a token")
	}
	_, _ = p.take(started(0, "t1"))
	if p.broke(&Error{Code: codes.NotFound, Reason: "RESUME_NOT_FOUND"}) {
		t.Error("came back to a call that is gone")
	}
	for round := range uint64(3) {
		for k := range resumptionsMax {
			if !p.broke(lost()) {
				t.Fatalf("round %d: gave up after %d", round, k)
			}
			_, _ = p.take(delta(round, 0, "known")) // is no progress
		}
		if p.broke(lost()) {
			t.Fatal("went on for ever")
		}
		_, _ = p.take(delta(round+1, 0, "new"))
	}
}
