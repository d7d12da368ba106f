package lepton

import (
	"strings"

	"google.golang.org/grpc/codes"
)

// How often one direct stream may move, by why.
const (
	lossesMax    = 2  // workers that it may lose and still go on
	handOversMax = 16 // workers that may hand it over because they leave
	refusalsMax  = 2  // workers that may decline to go on with it
)

// breakKind is how an attempt at a direct stream came to its end.
type breakKind int

const (
	final    breakKind = iota // the request's own fault, its deadline, its client: another worker would end it alike
	loss                      // the worker died, froze, failed, or cut the stream
	handOver                  // the worker leaves, and asks for others to finish its streams
	refusal                   // the worker was asked to go on, and declined before its first message
)

// notTheOne is how a worker says that it is not the one that we took it for, or that we came too late.
var notTheOne = map[string]bool{
	"CONTINUATION_UNSUPPORTED": true,
	"MODEL_NOT_FOUND":          true,
	"REVISION_NOT_FOUND":       true,
	"TICKET_EXPIRED":           true,
}

// breakOf is what an error of a worker means for the stream; silent: this worker has sent nothing yet.
func breakOf(err *Error, silent bool) breakKind {
	switch {
	case silent && declines(err):
		return refusal
	case !helpsElsewhere(err):
		return final
	case err.Code == codes.Unavailable && err.Reason != ReasonWorkerLost && silent:
		return refusal
	case err.Code == codes.Unavailable && err.Reason != ReasonWorkerLost:
		return handOver
	}
	return loss
}

func declines(err *Error) bool {
	return strings.HasPrefix(err.Field, "continuation") || notTheOne[err.Reason] || err.Code == codes.ResourceExhausted
}

// helpsElsewhere: another worker may do better. One with the same weights would give MODEL_OUTPUT_INVALID again.
func helpsElsewhere(err *Error) bool {
	switch err.Code {
	case codes.Unavailable, codes.ResourceExhausted:
		return true
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return err.Reason != "MODEL_OUTPUT_INVALID"
	}
	return false
}

// moves counts how often one stream has moved.
type moves struct{ losses, handOvers, refusals int }

// allow counts a break, if the stream may go on elsewhere after it.
func (m *moves) allow(how breakKind) bool {
	switch {
	case how == loss && m.losses < lossesMax:
		m.losses++
	case how == handOver && m.handOvers < handOversMax:
		m.handOvers++
	case how == refusal && m.refusals < refusalsMax:
		m.refusals++
	default:
		return false
	}
	return true
}

// attempt numbers the continuation that is next, from 1; one that was refused is sent again as the same.
func (m *moves) attempt() uint32 { return uint32(m.losses + m.handOvers) }
