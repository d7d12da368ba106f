package lepton

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

func twoChoices() *leptonv1.GenerateRequest {
	return &leptonv1.GenerateRequest{
		Input: &leptonv1.GenerateRequest_Text{Text: "hi"}, Model: "m", Revision: "aa",
		Sampling: &leptonv1.SamplingParams{N: proto.Uint32(2)},
	}
}

func TestTheContinuationIsWhatTheStreamHasTold(t *testing.T) {
	r := newRecord(twoChoices())
	stop := leptonv1.FinishReason_FINISH_REASON_STOP
	for _, event := range []*leptonv1.Event{
		started(0, ""), delta(1, 1, "b", 20), delta(2, 0, "", 10, 11), ended(delta(3, 1, "", 21), stop),
	} {
		if err := r.take(event); err != nil {
			t.Fatal(err)
		}
	}
	want := twoChoices()
	want.Revision = "bb"
	want.Continuation = &leptonv1.Continuation{
		Choices: []*leptonv1.ContinuedChoice{
			{TokenIds: []uint32{10, 11}},
			{TokenIds: []uint32{20, 21}, End: &leptonv1.ChoiceEnd{Reason: stop}},
		},
		NextSeq: 4, Seed: 7, PromptTokens: 3, CachedTokens: 2, Attempt: 1, FromWorkerId: "w1",
	}
	if got := r.continued("bb", 1, "w1"); !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if r.request.Continuation != nil {
		t.Error("the request itself has changed")
	}
}

func TestAChoiceOfWhichNothingCameIsEmpty(t *testing.T) {
	r := newRecord(twoChoices())
	_ = r.take(started(0, ""))
	if choices := r.continued("bb", 1, "w1").Continuation.Choices; len(choices) != 2 {
		t.Errorf("%v", choices)
	}
}

func TestNothingToGoOnWith(t *testing.T) {
	if got := newRecord(twoChoices()).continued("bb", 1, "w1"); got != nil {
		t.Errorf("%v", got)
	}
}

func TestARecordRefusesWhatIsNoPartOfTheStream(t *testing.T) {
	stop := leptonv1.FinishReason_FINISH_REASON_STOP
	for name, events := range map[string][]*leptonv1.Event{
		"gap":       {started(0, ""), delta(2, 0, "a")},
		"again":     {started(0, ""), started(0, "")},
		"choice":    {started(0, ""), delta(1, 2, "a")},
		"ended":     {started(0, ""), ended(delta(1, 0, "a"), stop), delta(2, 0, "b")},
		"after end": {started(0, ""), finished(1), delta(2, 0, "a")},
	} {
		r := newRecord(twoChoices())
		for _, event := range events[:len(events)-1] {
			if err := r.take(event); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		due := r.due
		if err := r.take(events[len(events)-1]); err == nil || err.Reason != ReasonStreamFault {
			t.Errorf("%s: %v", name, err)
		}
		if r.due != due {
			t.Errorf("%s: counted as a part", name)
		}
	}
}
