package lepton

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// lastWordMax is how long the status after the last event may take.
const lastWordMax = time.Second

// attempt is one Generate at one address.
type attempt struct {
	ctx     context.Context // of the whole call; that of the attempt ends earlier
	cancel  context.CancelFunc
	peer    *peer
	rpc     grpc.ServerStreamingClient[leptonv1.GenerateResponse]
	opening error
	pending []*leptonv1.Event
	begun   bool // a message has come
	ids     callIDs
}

// begin sends the request; ctx carries the metadata. End the attempt when it is not needed any more.
func begin(ctx context.Context, peer *peer, request *leptonv1.GenerateRequest) *attempt {
	own, cancel := context.WithCancel(ctx)
	rpc, err := peer.stub.Generate(own, request)
	return &attempt{ctx: ctx, cancel: cancel, peer: peer, rpc: rpc, opening: err}
}

// await receives until an event is there.
func (a *attempt) await() *Error {
	for len(a.pending) == 0 {
		if a.opening != nil {
			return fromRPC(a.ctx, a.opening, a.peer.address, a.ids)
		}
		response, err := a.rpc.Recv()
		if err != nil {
			return a.failure(err)
		}
		if !a.begun {
			a.begun = true
			header, _ := a.rpc.Header() // it has come with the message
			a.ids = idsIn(header)
		}
		a.pending = response.GetEvents()
	}
	return nil
}

// next is the next event.
func (a *attempt) next() (*leptonv1.Event, *Error) {
	if err := a.await(); err != nil {
		return nil, err
	}
	event := a.pending[0]
	a.pending = a.pending[1:]
	return event, nil
}

// failure is what an error of Recv means. The end of the stream is one: whoever has seen Finished does not ask again.
func (a *attempt) failure(err error) *Error {
	if err == io.EOF {
		return a.lost("ended the stream before its end")
	}
	if !a.begun {
		header, _ := a.rpc.Header() // there is none when nobody answered
		a.ids = idsIn(header, a.rpc.Trailer())
	}
	found := fromRPC(a.ctx, err, a.peer.address, a.ids)
	if a.begun && found.unreachable() {
		return a.lost("broke the connection")
	}
	return found
}

func (a *attempt) lost(what string) *Error {
	return &Error{
		Code: codes.Unavailable, Reason: ReasonWorkerLost, Message: fmt.Sprintf("%s %s", a.peer.address, what),
		RequestID: a.ids.request, TraceID: a.ids.trace,
	}
}

// lastWord waits for the status that follows Finished, so that the server does not take us for a client that left.
func (a *attempt) lastWord() {
	timer := time.AfterFunc(lastWordMax, a.cancel)
	defer timer.Stop()
	_, _ = a.rpc.Recv()
}

// end lets go of the stream; the server notices.
func (a *attempt) end() { a.cancel() }
