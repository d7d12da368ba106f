package lepton

import (
	"context"

	"google.golang.org/grpc/metadata"
)

const (
	callerKey    = "lepton-caller"
	ticketKey    = "lepton-ticket"
	requestIDKey = "lepton-request-id"
	traceIDKey   = "lepton-trace-id"
)

// outgoing adds what the settings say to the metadata of a call.
func outgoing(ctx context.Context, s callSettings) context.Context {
	var pairs []string
	for key, value := range s.metadata {
		pairs = append(pairs, key, value)
	}
	if s.apiKey != "" {
		pairs = append(pairs, "authorization", "Bearer "+s.apiKey)
	}
	if s.caller != "" {
		pairs = append(pairs, callerKey, s.caller)
	}
	if s.traceparent != nil {
		if current := s.traceparent(ctx); current != "" {
			pairs = append(pairs, "traceparent", current)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// callIDs is how a call is found in logs and traces.
type callIDs struct{ request, trace string }

// idsIn reads the ids from a response; of refusals they come in the trailer.
func idsIn(found ...metadata.MD) callIDs {
	var ids callIDs
	for _, md := range found {
		if values := md.Get(requestIDKey); len(values) > 0 {
			ids.request = values[0]
		}
		if values := md.Get(traceIDKey); len(values) > 0 {
			ids.trace = values[0]
		}
	}
	return ids
}
