package lepton

import (
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

const (
	resumableMillis = 30000
	resumptionsMax  = 5 // without a new event in between
)

// progress is how far a relayed stream has come: what is due next, and how to come back to it.
type progress struct {
	due      uint64 // seq
	token    string // of a resumable call
	begun    bool   // an event has come
	failures int    // since the last new event
}

// progressOf begins where the request does, which may itself go on with a call.
func progressOf(request *leptonv1.GenerateRequest) *progress {
	p := &progress{token: request.GetResume().GetResumeToken()}
	if resume := request.GetResume(); resume != nil && resume.AfterSeq != nil {
		p.due = resume.GetAfterSeq() + 1
	}
	return p
}

// take notes an event, and says whether it is new: after a resumption known ones may come once more.
func (p *progress) take(event *leptonv1.Event) (bool, *Error) {
	if event.GetSeq() < p.due {
		return false, nil
	}
	if event.GetSeq() > p.due {
		return false, streamFault(fmt.Sprintf("event %d came where %d was due", event.GetSeq(), p.due))
	}
	p.due++
	p.begun = true
	p.failures = 0
	switch kind := event.GetKind().(type) {
	case *leptonv1.Event_Started:
		p.token = kind.Started.GetResumeToken()
	case *leptonv1.Event_Migrated:
		p.token = kind.Migrated.GetResumeToken()
	}
	return true, nil
}

// broke is told how a stream that had begun ended, and says whether to come back.
func (p *progress) broke(err *Error) bool {
	if p.token == "" || err.Code != codes.Unavailable || p.failures >= resumptionsMax {
		return false
	}
	p.failures++
	return true
}

// resumeFrom is the way back.
func (p *progress) resumeFrom() *leptonv1.ResumeFrom {
	from := &leptonv1.ResumeFrom{ResumeToken: p.token}
	if p.due > 0 {
		after := p.due - 1
		from.AfterSeq = &after
	}
	return from
}

func streamFault(what string) *Error {
	return &Error{Code: codes.Internal, Reason: ReasonStreamFault, Message: "the rules of a stream were broken: " + what}
}
