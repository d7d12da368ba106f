// Command otel asks one question inside a span, which the trace of the cluster goes on from: `lepton trace` shows the
// call under the trace id that this prints. It is a module of its own, so that the client needs no OpenTelemetry.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	lepton "github.com/lepton/lepton/clients/go"
)

func main() {
	log.SetFlags(0)
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := lepton.Dial(
		cmp.Or(os.Getenv("LEPTON_ADDRESS"), "localhost:50051"),
		lepton.WithTraceparent(traceparent),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	tracer := trace.NewTracerProvider().Tracer("example")
	ctx, span := tracer.Start(ctx, "ask")
	defer span.End()
	answer, err := client.Chat(ctx, lepton.Messages(lepton.User("What is 27 + 35?"))).Collect()
	if err != nil {
		return err
	}
	fmt.Println(answer.Text())
	fmt.Println(span.SpanContext().TraceID(), answer.TraceID)
	return nil
}

// traceparent is the current span, as W3C writes it.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}
