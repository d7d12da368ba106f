package lepton_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	lepton "github.com/lepton/lepton/clients/go"
)

func ExampleClient_Chat() {
	client, err := lepton.Dial("localhost:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	messages := lepton.Messages(lepton.System("Be brief."), lepton.User("What is 27 + 35?"))
	answer, err := client.Chat(context.Background(), messages, lepton.MaxTokens(64)).Collect()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text(), answer.Choices[0].Finish, answer.Usage.GetCompletionTokens())
}

func ExampleError() {
	client, err := lepton.Dial("localhost:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = client.Complete(context.Background(), "Hi", lepton.TopP(7)).Collect()

	var refused *lepton.Error
	switch {
	case lepton.IsOverloaded(err):
		fmt.Println("come back later")
	case errors.As(err, &refused):
		fmt.Println(refused.Reason, refused.Field) // FIELD_OUT_OF_RANGE sampling.top_p
	}
}

func ExampleClient_With() {
	client, err := lepton.Dial("router-1:50051,router-2:50051", lepton.WithResume())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	hasty := client.With(lepton.WithTimeout(2*time.Second), lepton.WithoutRetries())
	for text, err := range hasty.Complete(context.Background(), "Once upon a time").Text() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
}
