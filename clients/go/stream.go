package lepton

import (
	"context"
	"io"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// abortMax is how long leaving a resumable call may take: it must be told to stop.
const abortMax = 2 * time.Second

// Stream is one generation. Range over [Stream.Events] or [Stream.Text], or call [Stream.Recv] until io.EOF, or
// [Stream.Collect] the rest; all read the same stream. What is not read to its end is closed with [Stream.Close], which
// leaving a range does.
//
// One goroutine reads; any may close.
type Stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	mutex  sync.Mutex
	source source
	answer answer
	end    error // io.EOF after Finished
}

// source is where the events of a call come from, each seq once and in order.
type source interface {
	// next is not called after Finished or an error.
	next() (*leptonv1.Event, *Error)
	// lastWord lets the server end a stream whose Finished has come.
	lastWord()
	// abort ends what goes on without a connection.
	abort(context.Context)
	// stop ends the connection.
	stop()
	found() callIDs
}

func newStream(ctx context.Context, c *Client, request *leptonv1.GenerateRequest) *Stream {
	ctx, cancel := withTimeout(ctx, c.settings.timeout)
	s := &Stream{ctx: ctx, cancel: cancel, answer: newAnswer(numChoices(request))}
	if c.settings.direct {
		s.source = newDirect(ctx, c, request)
	} else {
		s.source = newRelay(ctx, c, request)
	}
	return s
}

// Recv returns the next event: io.EOF after Finished, else an [*Error] for a stream that failed. What it returned once
// it returns again.
func (s *Stream) Recv() (*leptonv1.Event, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.end != nil {
		return nil, s.end
	}
	if s.answer.isWhole() {
		s.source.lastWord()
		s.finish(io.EOF)
		return nil, s.end
	}
	event, err := s.source.next()
	if err == nil {
		err = s.answer.take(event)
	}
	if err != nil {
		s.finish(err)
		return nil, s.end
	}
	return event, nil
}

// Events ranges over the events, as Recv gives them. Leaving the range closes the stream; an error comes last.
func (s *Stream) Events() iter.Seq2[*leptonv1.Event, error] {
	return func(yield func(*leptonv1.Event, error) bool) {
		defer s.Close()
		for {
			event, err := s.Recv()
			if err == io.EOF || !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Text ranges over the text of the first choice as it comes; Completion has the others. Leaving the range closes the
// stream; an error comes last.
func (s *Stream) Text() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for event, err := range s.Events() {
			delta := event.GetDelta()
			if err == nil && (delta.GetIndex() != 0 || delta.GetText() == "") {
				continue
			}
			if !yield(delta.GetText(), err) {
				return
			}
		}
	}
}

// Collect reads to the end and returns the whole answer. After an error it is what had come until then.
func (s *Stream) Collect() (*Completion, error) {
	for _, err := range s.Events() {
		if err != nil {
			return s.Completion(), err
		}
	}
	return s.Completion(), nil
}

// Completion is the answer as far as it has been read.
func (s *Stream) Completion() *Completion {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.answer.completion()
	ids := s.source.found()
	found.TraceID = ids.trace
	if found.RequestID == "" {
		found.RequestID = ids.request
	}
	return found
}

// Close ends the call if it has not ended; the cluster stops computing. It may be called more than once.
func (s *Stream) Close() {
	s.cancel() // wakes a reader
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.end != nil {
		return
	}
	if s.answer.isWhole() {
		s.finish(io.EOF)
		return
	}
	s.finish(&Error{Code: codes.Canceled, Reason: ReasonClientGone, Message: "the stream was closed"})
}

func (s *Stream) finish(end error) {
	s.end = end
	s.source.stop()
	if IsCancelled(end) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), abortMax)
		defer cancel()
		s.source.abort(ctx)
	}
	s.cancel()
}
