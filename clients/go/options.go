package lepton

import (
	"context"
	"crypto/tls"
	"maps"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const timeoutDefault = 600 * time.Second

// Option changes a client; given to [Dial].
type Option interface{ applyTo(*settings) }

// CallOption changes how calls are made: all calls of a client when given to [Dial], those of a derived one when given
// to [Client.With].
type CallOption func(*callSettings)

type connectOption func(*settings)

type settings struct {
	credentials credentials.TransportCredentials
	dial        []grpc.DialOption
	call        callSettings
}

type callSettings struct {
	timeout     time.Duration
	retry       bool
	resume      bool
	direct      bool
	apiKey      string
	caller      string
	metadata    map[string]string
	traceparent func(context.Context) string
}

func defaultSettings() settings {
	return settings{
		credentials: insecure.NewCredentials(),
		call:        callSettings{timeout: timeoutDefault, retry: true},
	}
}

func (o CallOption) applyTo(s *settings)    { o(&s.call) }
func (o connectOption) applyTo(s *settings) { o(s) }

func (s callSettings) clone() callSettings {
	s.metadata = maps.Clone(s.metadata)
	return s
}

// WithTLS encrypts connections: a nil config trusts the system's authorities; RootCAs and Certificates of a config
// bring an authority and a client certificate of your own. Without it connections are plaintext.
func WithTLS(config *tls.Config) Option {
	return WithCredentials(credentials.NewTLS(config))
}

// WithCredentials sets the transport credentials of gRPC, for what [WithTLS] cannot express.
func WithCredentials(credentials credentials.TransportCredentials) Option {
	return connectOption(func(s *settings) { s.credentials = credentials })
}

// WithDialOptions hands options to gRPC, for example a stats handler of OpenTelemetry; they come after the client's own.
func WithDialOptions(options ...grpc.DialOption) Option {
	return connectOption(func(s *settings) { s.dial = append(s.dial, options...) })
}

// WithTimeout sets the time for a whole call, retries and resumptions included. A context with a deadline takes its
// place. Default 600 s.
func WithTimeout(timeout time.Duration) CallOption {
	return func(s *callSettings) { s.timeout = timeout }
}

// WithoutRetries makes the first failure of a call its last.
func WithoutRetries() CallOption {
	return func(s *callSettings) { s.retry = false }
}

// WithResume makes streams outlive their connection: one that is cut is gone on with where it stopped, at any of the
// routers. The cluster keeps computing meanwhile, for 30 s at most.
func WithResume() CallOption {
	return func(s *callSettings) { s.resume = true }
}

// WithDirect streams from the workers themselves: routers only choose them, so workers must be reachable. A worker that
// is lost is followed by another one. Takes the place of [WithResume].
func WithDirect() CallOption {
	return func(s *callSettings) { s.direct = true }
}

// WithAPIKey sends a key as "authorization: Bearer …". Together with [WithTLS], unless it may be read on the way.
func WithAPIKey(key string) CallOption {
	return func(s *callSettings) { s.apiKey = key }
}

// WithCaller says on whose behalf calls are made: callers share a full router fairly.
func WithCaller(name string) CallOption {
	return func(s *callSettings) { s.caller = name }
}

// WithMetadata adds gRPC metadata to every call.
func WithMetadata(metadata map[string]string) CallOption {
	return func(s *callSettings) {
		if s.metadata == nil {
			s.metadata = map[string]string{}
		}
		maps.Copy(s.metadata, metadata)
	}
}

// WithTraceparent sets where the W3C trace context of a call comes from: current returns the value of "traceparent" for
// the context of the call, or "". The README shows it with OpenTelemetry.
func WithTraceparent(current func(context.Context) string) CallOption {
	return func(s *callSettings) { s.traceparent = current }
}
