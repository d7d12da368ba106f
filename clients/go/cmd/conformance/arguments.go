package main

import (
	"context"
	"encoding/json"
	"fmt"

	lepton "github.com/lepton/lepton/clients/go"
	"github.com/lepton/lepton/clients/go/leptonv1"
)

// arguments are those of `complete` and `chat`.
type arguments struct {
	Text        string    `json:"text"`
	Messages    []message `json:"messages"`
	Model       *string   `json:"model"`
	MaxTokens   *uint32   `json:"max_tokens"`
	Temperature *float32  `json:"temperature"`
	TopP        *float32  `json:"top_p"`
	Seed        *uint64   `json:"seed"`
	N           *uint32   `json:"n"`
	Stop        []string  `json:"stop"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

var speakers = map[string]func(string) *leptonv1.ChatMessage{
	"system":    lepton.System,
	"user":      lepton.User,
	"assistant": lepton.Assistant,
}

func (c *command) ask(ctx context.Context, client *lepton.Client) (*lepton.Stream, error) {
	var told arguments
	if err := json.Unmarshal(c.Request, &told); err != nil {
		return nil, err
	}
	if c.Op == "complete" {
		return client.Complete(ctx, told.Text, told.params()...), nil
	}
	var messages []*leptonv1.ChatMessage
	for _, said := range told.Messages {
		speaker := speakers[said.Role]
		if speaker == nil {
			return nil, fmt.Errorf("unknown role %q", said.Role)
		}
		messages = append(messages, speaker(said.Content))
	}
	return client.Chat(ctx, messages, told.params()...), nil
}

func (a *arguments) params() []lepton.Param {
	var found []lepton.Param
	found = add(found, a.Model, lepton.Model)
	found = add(found, a.MaxTokens, lepton.MaxTokens)
	found = add(found, a.Temperature, lepton.Temperature)
	found = add(found, a.TopP, lepton.TopP)
	found = add(found, a.Seed, lepton.Seed)
	found = add(found, a.N, lepton.NumChoices)
	return append(found, lepton.Stop(a.Stop...))
}

func add[T any](params []lepton.Param, value *T, param func(T) lepton.Param) []lepton.Param {
	if value == nil {
		return params
	}
	return append(params, param(*value))
}
