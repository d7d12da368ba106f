package lepton

import (
	"fmt"
	"strings"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// FinishReason says why a choice ended. One that this release does not know is kept as its number.
type FinishReason string

const (
	// FinishStop: the model said it is done, a stop condition matched, or the constraint is complete.
	FinishStop FinishReason = "STOP"
	// FinishLength: the most tokens, or the context, are reached.
	FinishLength FinishReason = "LENGTH"
)

// Completion is a whole answer, or the part of one that has come.
type Completion struct {
	// Choices has one entry per choice that was asked for.
	Choices []Choice
	// Usage counts tokens; nil until the stream has ended.
	Usage *leptonv1.Usage
	// Timings says where the time went; nil until the stream has ended.
	Timings *leptonv1.Timings
	// Started tells model, worker and seed; nil before the first event.
	Started *leptonv1.Started
	// RequestID and TraceID find the call in logs and traces.
	RequestID, TraceID string
}

// Text is that of the first choice.
func (c *Completion) Text() string { return c.Choices[0].Text }

// Choice is one of several answers.
type Choice struct {
	Text     string
	TokenIDs []uint32
	// Finish is empty until the choice has ended.
	Finish FinishReason
	// End tells what matched, when a stop condition did; nil until the choice has ended.
	End *leptonv1.ChoiceEnd
}

// answer folds events into a completion.
type answer struct {
	numChoices int
	choices    []choice
	started    *leptonv1.Started
	finished   *leptonv1.Finished
}

type choice struct {
	text *strings.Builder
	ids  []uint32
	end  *leptonv1.ChoiceEnd
}

func newAnswer(numChoices int) answer {
	a := answer{numChoices: numChoices}
	a.grow(1) // more when they come: nobody has checked the number yet
	return a
}

func (a *answer) take(event *leptonv1.Event) *Error {
	switch kind := event.GetKind().(type) {
	case *leptonv1.Event_Started:
		a.started = kind.Started
	case *leptonv1.Event_Delta:
		index := int(kind.Delta.GetIndex())
		if index >= a.numChoices {
			return streamFault(fmt.Sprintf("choice %d was not asked for", index))
		}
		a.grow(index + 1)
		into := &a.choices[index]
		into.text.WriteString(kind.Delta.GetText())
		into.ids = append(into.ids, kind.Delta.GetTokenIds()...)
		if end := kind.Delta.GetEnd(); end != nil {
			into.end = end
		}
	case *leptonv1.Event_Finished:
		a.finished = kind.Finished
		a.grow(min(a.numChoices, len(kind.Finished.GetChoices())))
	}
	return nil
}

func (a *answer) grow(n int) {
	for len(a.choices) < n {
		a.choices = append(a.choices, choice{text: &strings.Builder{}})
	}
}

func (a *answer) isWhole() bool { return a.finished != nil }

func (a *answer) completion() *Completion {
	found := &Completion{
		Started: a.started, RequestID: a.started.GetRequestId(),
		Usage: a.finished.GetUsage(), Timings: a.finished.GetTimings(),
	}
	for _, from := range a.choices {
		choice := Choice{Text: from.text.String(), TokenIDs: from.ids, End: from.end}
		if from.end != nil {
			choice.Finish = finishReason(from.end.GetReason())
		}
		found.Choices = append(found.Choices, choice)
	}
	return found
}

func finishReason(reason leptonv1.FinishReason) FinishReason {
	return FinishReason(strings.TrimPrefix(reason.String(), "FINISH_REASON_"))
}
