package lepton

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

// Tokenize turns text or a chat into the token ids that a generation would see.
func (c *Client) Tokenize(
	ctx context.Context, request *leptonv1.TokenizeRequest,
) (*leptonv1.TokenizeResponse, error) {
	return unary(ctx, c, request, leptonv1.InferenceServiceClient.Tokenize)
}

// Detokenize turns token ids back into text.
func (c *Client) Detokenize(
	ctx context.Context, request *leptonv1.DetokenizeRequest,
) (*leptonv1.DetokenizeResponse, error) {
	return unary(ctx, c, request, leptonv1.InferenceServiceClient.Detokenize)
}

// CountTokens counts the tokens that a generation would see.
func (c *Client) CountTokens(
	ctx context.Context, request *leptonv1.CountTokensRequest,
) (*leptonv1.CountTokensResponse, error) {
	return unary(ctx, c, request, leptonv1.InferenceServiceClient.CountTokens)
}

// ListModels lists what can be asked now.
func (c *Client) ListModels(ctx context.Context) ([]*leptonv1.ModelInfo, error) {
	response, err := unary(ctx, c, &leptonv1.ListModelsRequest{}, leptonv1.InferenceServiceClient.ListModels)
	return response.GetModels(), err
}

// method is one of the stub's, as Go sees it without its receiver.
type method[Q, A any] func(leptonv1.InferenceServiceClient, context.Context, Q, ...grpc.CallOption) (A, error)

// unary calls a method whose calls may be repeated, with timeout and retries.
func unary[Q, A any](ctx context.Context, c *Client, request Q, call method[Q, A]) (A, error) {
	ctx, cancel := withTimeout(ctx, c.settings.timeout)
	defer cancel()
	answer, err := retried(outgoing(ctx, c.settings), c, request, call)
	if err != nil {
		return answer, err
	}
	return answer, nil
}

// retried makes attempts until one succeeds or nothing speaks for another; ctx carries the metadata.
func retried[Q, A any](ctx context.Context, c *Client, request Q, call method[Q, A]) (A, *Error) {
	tries, way := c.retries(), c.routers.route()
	for {
		answer, err := ask(way, func(p *peer) (A, *Error) {
			var header, trailer metadata.MD
			answer, err := call(p.stub, ctx, request, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil {
				return answer, fromRPC(ctx, err, p.address, idsIn(header, trailer))
			}
			return answer, nil
		})
		if err == nil {
			return answer, nil
		}
		pause, again := tries.after(err, remaining(ctx, c.clock))
		if !again {
			return answer, err
		}
		c.clock.sleep(ctx, pause)
	}
}

// retries begins the count for one call.
func (c *Client) retries() *retries {
	c.budget.earn()
	return &retries{enabled: c.settings.retry, budget: c.budget, random: c.random}
}

// withTimeout gives a context the timeout of a call, unless it has a deadline of its own.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
