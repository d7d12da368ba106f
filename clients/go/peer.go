package lepton

import (
	"fmt"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

const messageBytesMax = 64 << 20

var addressForm = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5}$`)

// peer is a connection to one router or worker.
type peer struct {
	address string
	conn    *grpc.ClientConn
	stub    leptonv1.InferenceServiceClient
}

// openPeer connects on first use.
func openPeer(address string, s settings) (*peer, *Error) {
	if !addressForm.MatchString(address) {
		return nil, &Error{
			Code: codes.FailedPrecondition, Reason: ReasonSettingInvalid,
			Message: fmt.Sprintf("%q is not an address; write host:port, for example 127.0.0.1:50051", address),
		}
	}
	conn, err := grpc.NewClient("dns:///"+address, append(dialOptions(s), s.dial...)...)
	if err != nil {
		return nil, &Error{
			Code: codes.FailedPrecondition, Reason: ReasonSettingInvalid,
			Message: fmt.Sprintf("cannot connect to %s: %v", address, err),
		}
	}
	return &peer{address: address, conn: conn, stub: leptonv1.NewInferenceServiceClient(conn)}, nil
}

func dialOptions(s settings) []grpc.DialOption {
	retry := backoff.DefaultConfig
	// A restarted process is found again within a second, not after two minutes.
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, time.Second
	return []grpc.DialOption{
		grpc.WithTransportCredentials(s.credentials),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		// A peer that vanished is noticed within 15 s. Servers refuse pings more often than every 5 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		// Retries are ours: we know what the caller has got, and what waiting helps.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("lepton-go"),
	}
}
