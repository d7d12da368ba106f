package lepton

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// record is what one direct stream has told, as far as another worker needs it to go on.
type record struct {
	request  *leptonv1.GenerateRequest // as the first worker got it, token ids asked for
	due      uint64                    // seq
	started  *leptonv1.Started
	choices  []recordedChoice // those of which something has come, and those before them
	finished bool
}

type recordedChoice struct {
	ids []uint32
	end *leptonv1.ChoiceEnd
}

func newRecord(request *leptonv1.GenerateRequest) *record { return &record{request: request} }

// take folds in the next event. One for which this fails is no part of the stream.
func (r *record) take(event *leptonv1.Event) *Error {
	if event.GetSeq() != r.due {
		return streamFault(fmt.Sprintf("event %d came where %d was due", event.GetSeq(), r.due))
	}
	if r.finished {
		return streamFault(fmt.Sprintf("event %d came after the end", event.GetSeq()))
	}
	switch kind := event.GetKind().(type) {
	case *leptonv1.Event_Started:
		r.started = kind.Started
	case *leptonv1.Event_Delta:
		if err := r.takeDelta(kind.Delta); err != nil {
			return err
		}
	case *leptonv1.Event_Finished:
		r.finished = true
	}
	r.due++
	return nil
}

func (r *record) takeDelta(delta *leptonv1.Delta) *Error {
	index := int(delta.GetIndex())
	if index >= numChoices(r.request) {
		return streamFault(fmt.Sprintf("choice %d was not asked for", index))
	}
	r.grow(index + 1)
	choice := &r.choices[index]
	if choice.end != nil {
		return streamFault(fmt.Sprintf("more of choice %d came after its end", index))
	}
	choice.ids = append(choice.ids, delta.GetTokenIds()...)
	choice.end = delta.GetEnd()
	return nil
}

// continued is the request to go on with at another worker; nil when nothing has come that could be gone on with.
func (r *record) continued(revision string, attempt uint32, fromWorker string) *leptonv1.GenerateRequest {
	if r.started == nil {
		return nil
	}
	continuation := &leptonv1.Continuation{
		NextSeq:      r.due,
		Seed:         r.started.GetSeed(),
		PromptTokens: r.started.GetPromptTokens(),
		CachedTokens: r.started.GetCachedTokens(),
		Attempt:      attempt,
		FromWorkerId: fromWorker,
	}
	r.grow(numChoices(r.request)) // a worker has begun, so the number is one that the cluster allows
	for _, choice := range r.choices {
		continuation.Choices = append(continuation.Choices,
			&leptonv1.ContinuedChoice{TokenIds: choice.ids, End: choice.end})
	}
	request := proto.CloneOf(r.request)
	request.Revision = revision // another process may have taken the address
	request.Continuation = continuation
	return request
}

func (r *record) grow(n int) {
	for len(r.choices) < n {
		r.choices = append(r.choices, recordedChoice{})
	}
}

// numChoices is how many answers a request asks for.
func numChoices(request *leptonv1.GenerateRequest) int {
	if sampling := request.GetSampling(); sampling != nil && sampling.N != nil {
		return int(sampling.GetN())
	}
	return 1
}
