// Command chat asks one question and prints the answer as it comes.
//
//	go run ./examples/chat "What is 27 + 35?"
//
// LEPTON_ADDRESS names the routers, "host:port" separated by commas; without it localhost:50051.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	lepton "github.com/lepton/lepton/clients/go"
)

func main() {
	log.SetFlags(0)
	question := cmp.Or(strings.Join(os.Args[1:], " "), "What is 27 + 35?")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := ask(ctx, question); err != nil {
		log.Fatal(err)
	}
}

func ask(ctx context.Context, question string) error {
	client, err := lepton.Dial(cmp.Or(os.Getenv("LEPTON_ADDRESS"), "localhost:50051"), lepton.WithResume())
	if err != nil {
		return err
	}
	defer client.Close()
	stream := client.Chat(ctx, lepton.Messages(lepton.User(question)), lepton.MaxTokens(256))
	for text, err := range stream.Text() {
		if err != nil {
			return err
		}
		fmt.Print(text)
	}
	usage := stream.Completion().Usage
	fmt.Printf("\n(%d + %d tokens)\n", usage.GetPromptTokens(), usage.GetCompletionTokens())
	return nil
}
