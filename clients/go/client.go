package lepton

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// Client calls a cluster through its routers. It is safe for concurrent use.
type Client struct {
	routers  *routers
	workers  *workers
	budget   *budget
	clock    clock
	random   func() float64 // from [0, 1)
	silence  time.Duration  // of a worker, in direct mode
	settings callSettings
}

// Dial makes a client for one or more routers, "host:port", separated by commas. It connects on first use; an address
// that nobody listens at shows in the calls.
func Dial(addresses string, options ...Option) (*Client, error) {
	settings := defaultSettings()
	for _, option := range options {
		option.applyTo(&settings)
	}
	client := &Client{
		routers:  &routers{},
		workers:  newWorkers(settings),
		budget:   newBudget(),
		clock:    systemClock{},
		random:   rand.Float64,
		silence:  silenceMax,
		settings: settings.call,
	}
	for address := range strings.SplitSeq(addresses, ",") {
		peer, err := openPeer(strings.TrimSpace(address), settings)
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		client.routers.peers = append(client.routers.peers, peer)
	}
	return client, nil
}

// With returns a client that calls with further options. It shares connections and retry budget with c; closing either
// closes both.
func (c *Client) With(options ...CallOption) *Client {
	with := *c
	with.settings = c.settings.clone()
	for _, option := range options {
		option(&with.settings)
	}
	return &with
}

// Close closes the connections. Streams that still run end with an error.
func (c *Client) Close() error {
	return errors.Join(c.routers.close(), c.workers.close())
}

// Generate asks for one generation. Nothing is sent before the first event is read from the stream; the time until the
// deadline runs from now on. Read the stream to its end or close it.
func (c *Client) Generate(ctx context.Context, request *leptonv1.GenerateRequest) *Stream {
	return newStream(ctx, c, request)
}

// Complete asks how text goes on.
func (c *Client) Complete(ctx context.Context, text string, params ...Param) *Stream {
	request := &leptonv1.GenerateRequest{Input: &leptonv1.GenerateRequest_Text{Text: text}}
	return c.Generate(ctx, applied(request, params))
}

// Chat asks for the next message of a conversation.
func (c *Client) Chat(ctx context.Context, messages []*leptonv1.ChatMessage, params ...Param) *Stream {
	chat := &leptonv1.ChatInput{Messages: messages}
	request := &leptonv1.GenerateRequest{Input: &leptonv1.GenerateRequest_Chat{Chat: chat}}
	return c.Generate(ctx, applied(request, params))
}
