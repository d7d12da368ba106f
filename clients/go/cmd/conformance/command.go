package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	lepton "github.com/lepton/lepton/clients/go"
	"github.com/lepton/lepton/clients/go/leptonv1"
)

// command is one line of the judge.
type command struct {
	ID        string          `json:"id"`
	Op        string          `json:"op"`
	Addresses []string        `json:"addresses"`
	Request   json.RawMessage `json:"request"`
	Options   options         `json:"options"`
}

type options struct {
	TimeoutS          float64           `json:"timeout_s"`
	Direct            bool              `json:"direct"`
	Resume            bool              `json:"resume"`
	Retry             *bool             `json:"retry"`
	APIKey            string            `json:"api_key"`
	Caller            string            `json:"caller"`
	Metadata          map[string]string `json:"metadata"`
	Traceparent       string            `json:"traceparent"`
	CancelAfterEvents int               `json:"cancel_after_events"`
	TLSCA             string            `json:"tls_ca"`
}

func (o options) client() []lepton.Option {
	var found []lepton.Option
	if o.TimeoutS > 0 {
		found = append(found, lepton.WithTimeout(time.Duration(o.TimeoutS*float64(time.Second))))
	}
	if o.Direct {
		found = append(found, lepton.WithDirect())
	}
	if o.Resume {
		found = append(found, lepton.WithResume())
	}
	if o.Retry != nil && !*o.Retry {
		found = append(found, lepton.WithoutRetries())
	}
	if o.TLSCA != "" {
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM([]byte(o.TLSCA))
		found = append(found, lepton.WithTLS(&tls.Config{RootCAs: trusted}))
	}
	if o.Traceparent != "" {
		found = append(found, lepton.WithTraceparent(func(context.Context) string { return o.Traceparent }))
	}
	return append(found, lepton.WithAPIKey(o.APIKey), lepton.WithCaller(o.Caller), lepton.WithMetadata(o.Metadata))
}

// run does what the judge asks for, with a client of its own.
func (c *command) run(ctx context.Context, seen *report) error {
	client, err := lepton.Dial(strings.Join(c.Addresses, ","), c.Options.client()...)
	if err != nil {
		return err
	}
	defer client.Close()
	switch c.Op {
	case "generate":
		request := parsed(c, &leptonv1.GenerateRequest{})
		return seen.events(client.Generate(ctx, request), c.Options.CancelAfterEvents)
	case "complete", "chat":
		stream, err := c.ask(ctx, client)
		if err != nil {
			return err
		}
		return seen.collect(stream)
	case "tokenize":
		return seen.respond(client.Tokenize(ctx, parsed(c, &leptonv1.TokenizeRequest{})))
	case "detokenize":
		return seen.respond(client.Detokenize(ctx, parsed(c, &leptonv1.DetokenizeRequest{})))
	case "count_tokens":
		return seen.respond(client.CountTokens(ctx, parsed(c, &leptonv1.CountTokensRequest{})))
	case "list_models":
		models, err := client.ListModels(ctx)
		return seen.respond(&leptonv1.ListModelsResponse{Models: models}, err)
	}
	return fmt.Errorf("unknown op %q", c.Op)
}

// parsed reads a request in the JSON form of protobuf; one that it cannot be is a fault of the case.
func parsed[M proto.Message](c *command, into M) M {
	if err := protojson.Unmarshal(c.Request, into); err != nil {
		panic(fmt.Sprintf("case %s: %v", c.ID, err))
	}
	return into
}
