package lepton

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// pick asks the routers, again if nothing has reached the caller yet and the failure passes.
func (d *direct) pick() (*leptonv1.PickResponse, *Error) {
	request := &leptonv1.PickRequest{Request: d.request, FailedTickets: d.failed}
	if d.origin != nil {
		request.Origin = &leptonv1.StreamOrigin{
			WorkerId: d.origin.GetWorkerId(), Model: d.origin.GetModel(),
			Revision: d.origin.GetRevision(), Fingerprint: d.origin.GetFingerprint(),
		}
	}
	for {
		picked, err := ask(d.client.routers, d.retries.failures, func(p *peer) (*leptonv1.PickResponse, *Error) {
			var header, trailer metadata.MD
			picked, err := p.stub.Pick(d.ctx, request, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil {
				return nil, fromRPC(d.ctx, err, p.address, idsIn(header, trailer))
			}
			return picked, nil
		})
		if err == nil {
			return picked, nil
		}
		pause, again := d.retries.after(err, remaining(d.ctx, d.client.clock))
		if d.origin != nil || !again {
			return nil, err
		}
		d.client.clock.sleep(d.ctx, pause)
	}
}
