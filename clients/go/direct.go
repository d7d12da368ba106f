package lepton

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// silenceMax is how long a worker may say nothing in the middle of a stream before it is given up. Before the first
// event nobody can say how long a prompt takes: there the pings of the connection and the deadline have to do.
const silenceMax = 10 * time.Second

// direct is a stream from the workers: a router picks each of them, and each goes on where the last one was lost.
type direct struct {
	ctx     context.Context
	client  *Client
	request *leptonv1.GenerateRequest
	hideIDs bool // the caller does not want token ids; a move needs them

	moves     moves
	failed    []string                  // tickets, oldest first
	record    *record                   // of the stream, once a worker was asked
	origin    *leptonv1.PickResponse    // whom the part of the answer comes from that the caller has
	continued *leptonv1.GenerateRequest // to go on with, once the stream has begun and broken
	failure   *Error                    // what happened to the stream last

	picked  *leptonv1.PickResponse
	attempt *attempt
	begun   bool // the worker of this attempt has sent something
	ids     callIDs
}

func newDirect(ctx context.Context, c *Client, request *leptonv1.GenerateRequest) *direct {
	request = proto.CloneOf(request)
	if request.RequestId == "" {
		request.RequestId = "direct-" + randomName()
	}
	output := request.GetOutput()
	return &direct{
		ctx: outgoing(ctx, c.settings), client: c, request: request,
		hideIDs: output != nil && output.TokenIds != nil && !output.GetTokenIds(),
		ids:     callIDs{request: request.RequestId},
	}
}

func randomName() string {
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	return hex.EncodeToString(name)
}

func (d *direct) next() (*leptonv1.Event, *Error) {
	for {
		if d.attempt == nil {
			if err := d.connect(); err != nil {
				return nil, err
			}
		}
		event, err := d.step()
		if err == nil {
			return d.shown(event), nil
		}
		d.stop()
		if err := d.goOn(err); err != nil {
			return nil, err
		}
	}
}

// connect asks for a worker and sends it the request.
func (d *direct) connect() *Error {
	picked, err := d.pick()
	if err != nil {
		return err
	}
	request := d.continued
	if d.origin == nil {
		d.record = newRecord(d.forWorker(picked))
	}
	if request == nil {
		request = d.forWorker(picked)
	}
	worker, err := d.client.workers.take(picked.GetAddress())
	if err != nil {
		return err
	}
	d.picked, d.begun = picked, false
	d.attempt = begin(metadata.AppendToOutgoingContext(d.ctx, ticketKey, picked.GetTicket()), worker, request)
	return nil
}

// step is the next event of the worker.
func (d *direct) step() (*leptonv1.Event, *Error) {
	var silent atomic.Bool
	if d.begun {
		attempt := d.attempt
		timer := time.AfterFunc(d.client.silence, func() {
			silent.Store(true)
			attempt.end()
		})
		defer timer.Stop()
	}
	event, err := d.attempt.next()
	d.ids.trace = d.attempt.ids.trace
	if silent.Load() {
		return nil, d.attempt.lost(fmt.Sprintf("said nothing for %v", d.client.silence))
	}
	if err != nil {
		if err.unreachable() {
			err.Reason = ReasonWorkerLost
		}
		return nil, err
	}
	d.begun, d.origin = true, d.picked
	return event, d.record.take(event)
}

// goOn prepares the next worker after a failure; it returns the error with which the stream ends when there is none.
func (d *direct) goOn(err *Error) *Error {
	if d.ctx.Err() != nil {
		return err
	}
	how := breakOf(err, !d.begun)
	if !d.moves.allow(how) {
		if how == refusal && d.failure != nil {
			return d.failure // who declined to help is not what happened to the stream
		}
		return err
	}
	d.failed = append(d.failed, d.picked.GetTicket())
	if how == refusal {
		return nil
	}
	d.failure = err
	if d.origin != nil {
		d.continued = d.record.continued(d.origin.GetRevision(), d.moves.attempt(), d.picked.GetWorkerId())
	}
	return nil
}

// forWorker is the caller's request as the worker of one model and revision takes it, with the ids that a move needs.
func (d *direct) forWorker(picked *leptonv1.PickResponse) *leptonv1.GenerateRequest {
	request := proto.CloneOf(d.request)
	request.Model, request.Revision = picked.GetModel(), picked.GetRevision()
	if request.Output == nil {
		request.Output = &leptonv1.OutputOptions{}
	}
	request.Output.TokenIds = proto.Bool(true)
	return request
}

func (d *direct) shown(event *leptonv1.Event) *leptonv1.Event {
	if delta := event.GetDelta(); delta != nil && d.hideIDs {
		delta.TokenIds = nil
	}
	return event
}

func (d *direct) lastWord() { d.attempt.lastWord() }

func (d *direct) stop() {
	if d.attempt != nil {
		d.attempt.end()
		d.client.workers.release(d.attempt.peer)
		d.attempt = nil
	}
}

func (d *direct) found() callIDs { return d.ids }

// abort has nothing to do: a worker notices that its caller is gone.
func (d *direct) abort(context.Context) {}
