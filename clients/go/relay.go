package lepton

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// relay is a stream through a router: tried again before its first event, and come back to after that if it may be.
type relay struct {
	ctx      context.Context
	client   *Client
	request  *leptonv1.GenerateRequest
	retries  *retries
	progress *progress
	route    *route
	attempt  *attempt
	ids      callIDs
}

func newRelay(ctx context.Context, c *Client, request *leptonv1.GenerateRequest) *relay {
	request = proto.CloneOf(request)
	if c.settings.resume && request.ResumableMs == nil {
		request.ResumableMs = proto.Uint32(resumableMillis)
	}
	return &relay{
		ctx: outgoing(ctx, c.settings), client: c, request: request,
		retries: c.retries(), progress: progressOf(request), route: c.routers.route(),
	}
}

func (r *relay) next() (*leptonv1.Event, *Error) {
	for {
		event, err := r.step()
		if event != nil {
			return event, nil
		}
		if err == nil {
			continue // an event that is known
		}
		r.stop()
		r.route.failed = true
		pause, again := r.after(err)
		if !again {
			return nil, err
		}
		r.client.clock.sleep(r.ctx, pause)
	}
}

// step connects where necessary, and gives the next event if it is new.
func (r *relay) step() (*leptonv1.Event, *Error) {
	if r.attempt == nil {
		attempt, err := r.connect()
		if err != nil {
			return nil, err
		}
		r.attempt, r.ids = attempt, attempt.ids
	}
	event, err := r.attempt.next()
	if err != nil {
		return nil, err
	}
	if isNew, err := r.progress.take(event); !isNew {
		return nil, err
	}
	return event, nil
}

// connect is one attempt: a router that answers with an event.
func (r *relay) connect() (*attempt, *Error) {
	if r.progress.begun {
		r.request.Resume = r.progress.resumeFrom()
	}
	return ask(r.route, func(p *peer) (*attempt, *Error) {
		attempt := begin(r.ctx, p, r.request)
		if err := attempt.await(); err != nil {
			attempt.end()
			return nil, err
		}
		return attempt, nil
	})
}

// after says whether and when the call goes on after a failure.
func (r *relay) after(err *Error) (time.Duration, bool) {
	left := remaining(r.ctx, r.client.clock)
	if !r.progress.begun {
		return r.retries.after(err, left)
	}
	if !r.client.settings.resume || !r.progress.broke(err) {
		return 0, false
	}
	pause := wait(r.progress.failures-1, r.client.random(), err.RetryAfter)
	return pause, pause < left
}

func (r *relay) lastWord() { r.attempt.lastWord() }

func (r *relay) stop() {
	if r.attempt != nil {
		r.attempt.end()
		r.attempt = nil
	}
}

func (r *relay) found() callIDs { return r.ids }

// abort ends a resumable call, which would go on without us; any other has ended with its connection.
func (r *relay) abort(ctx context.Context) {
	if r.progress.token == "" {
		return
	}
	request := &leptonv1.AbortRequest{ResumeToken: r.progress.token}
	_, _ = ask(r.client.routers.route(), func(p *peer) (*leptonv1.AbortResponse, *Error) {
		response, err := p.stub.Abort(outgoing(ctx, r.client.settings), request)
		if err != nil {
			return nil, fromRPC(ctx, err, p.address, callIDs{})
		}
		return response, nil
	})
}
