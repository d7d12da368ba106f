package lepton

import "github.com/lepton/lepton/clients/go/leptonv1"

// pick asks the routers for a worker, with retries as any unary call: it computes nothing.
func (d *direct) pick() (*leptonv1.PickResponse, *Error) {
	request := &leptonv1.PickRequest{Request: d.request, FailedTickets: d.failed}
	if d.origin != nil {
		request.Origin = &leptonv1.StreamOrigin{
			WorkerId: d.origin.GetWorkerId(), Model: d.origin.GetModel(),
			Revision: d.origin.GetRevision(), Fingerprint: d.origin.GetFingerprint(),
		}
	}
	return retried(d.ctx, d.client, request, leptonv1.InferenceServiceClient.Pick)
}
