package lepton

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// scripted is a router or worker that answers each Generate with the next part of its script, over a real connection.
type scripted struct {
	leptonv1.UnimplementedInferenceServiceServer
	address string
	server  *grpc.Server

	mutex    sync.Mutex
	script   []scene
	picks    []*leptonv1.PickResponse
	asked    []*leptonv1.GenerateRequest
	picked   []*leptonv1.PickRequest
	tickets  []string
	aborted  []string
	refusals []error // of the unary calls
}

// scene is what comes of one Generate: events, then the error; a nil error with hang waits for the client to leave.
type scene struct {
	events []*leptonv1.Event
	err    error
	hang   bool
}

func serve(t *testing.T, script ...scene) *scripted {
	t.Helper()
	return serveWith(t, nil, script...)
}

func serveWith(t *testing.T, options []grpc.ServerOption, script ...scene) *scripted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{address: listener.Addr().String(), server: grpc.NewServer(options...), script: script}
	leptonv1.RegisterInferenceServiceServer(s.server, s)
	go func() { _ = s.server.Serve(listener) }()
	t.Cleanup(s.server.Stop)
	return s
}

func (s *scripted) Generate(
	request *leptonv1.GenerateRequest, stream grpc.ServerStreamingServer[leptonv1.GenerateResponse],
) error {
	s.mutex.Lock()
	s.asked = append(s.asked, request)
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.tickets = append(s.tickets, md.Get(ticketKey)...)
	now := scene{err: status.Error(codes.Internal, "the script is over")}
	if len(s.script) > 0 {
		now, s.script = s.script[0], s.script[1:]
	}
	s.mutex.Unlock()
	for _, event := range now.events {
		if err := stream.Send(&leptonv1.GenerateResponse{Events: []*leptonv1.Event{event}}); err != nil {
			return err
		}
	}
	if now.hang {
		<-stream.Context().Done()
	}
	return now.err
}

func (s *scripted) Pick(_ context.Context, request *leptonv1.PickRequest) (*leptonv1.PickResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.picked = append(s.picked, request)
	if len(s.picks) == 0 {
		return nil, refusedBy(codes.Unavailable, "REVISION_GONE", "", 0)
	}
	next := s.picks[0]
	s.picks = s.picks[1:]
	return next, nil
}

func (s *scripted) Abort(_ context.Context, request *leptonv1.AbortRequest) (*leptonv1.AbortResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.aborted = append(s.aborted, request.ResumeToken)
	return &leptonv1.AbortResponse{}, nil
}

func (s *scripted) CountTokens(
	context.Context, *leptonv1.CountTokensRequest,
) (*leptonv1.CountTokensResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.refusals) > 0 {
		err := s.refusals[0]
		s.refusals = s.refusals[1:]
		return nil, err
	}
	return &leptonv1.CountTokensResponse{NumTokens: 3}, nil
}

// manualClock is a clock that jumps over each sleep, and remembers it.
type manualClock struct {
	mutex sync.Mutex
	at    time.Time
	slept []time.Duration
}

func (c *manualClock) now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.at
}

func (c *manualClock) sleep(_ context.Context, d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.at = c.at.Add(d)
	c.slept = append(c.slept, d)
}

// dial makes a client whose waits take no time and are half of their bounds.
func dial(t *testing.T, addresses string, options ...Option) (*Client, *manualClock) {
	t.Helper()
	client, err := Dial(addresses, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	clock := &manualClock{at: time.Now()}
	client.clock, client.random = clock, func() float64 { return 0.5 }
	return client, clock
}
