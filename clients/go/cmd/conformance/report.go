package main

import (
	"encoding/json"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	lepton "github.com/lepton/lepton/clients/go"
)

// report is one line for the judge.
type report struct {
	ID        string            `json:"id"`
	Events    []json.RawMessage `json:"events,omitempty"`
	Text      []string          `json:"text,omitempty"`
	Finish    []string          `json:"finish,omitempty"`
	Response  json.RawMessage   `json:"response"`
	Error     *failure          `json:"error"`
	Cancelled bool              `json:"cancelled"`
}

type failure struct {
	Code         string   `json:"code"`
	Reason       string   `json:"reason"`
	Field        *string  `json:"field"`
	RetryAfterS  *float64 `json:"retry_after_s"`
	Message      string   `json:"message"`
	HasRequestID bool     `json:"has_request_id"`
}

// failureOf is what the judge is told of an error of the client; any other is a fault of the driver, and ends it.
func failureOf(err error) *failure {
	var found *lepton.Error
	if !errors.As(err, &found) {
		panic(err)
	}
	seen := &failure{
		Code: code.Code(found.Code).String(), Reason: found.Reason,
		Message: found.Message, HasRequestID: found.RequestID != "",
	}
	if found.Field != "" {
		seen.Field = &found.Field
	}
	if found.RetryAfter > 0 {
		seconds := found.RetryAfter.Seconds()
		seen.RetryAfterS = &seconds
	}
	return seen
}

// events ranges over a stream, and leaves it after so many events (0: never).
func (r *report) events(stream *lepton.Stream, leaveAfter int) error {
	defer func() { r.answer(stream.Completion()) }()
	for event, err := range stream.Events() {
		if err != nil {
			return err
		}
		r.Events = append(r.Events, marshalled(event))
		if r.Cancelled = len(r.Events) == leaveAfter; r.Cancelled {
			return nil
		}
	}
	return nil
}

func (r *report) collect(stream *lepton.Stream) error {
	answer, err := stream.Collect()
	r.answer(answer)
	return err
}

func (r *report) answer(answer *lepton.Completion) {
	for _, choice := range answer.Choices {
		r.Text = append(r.Text, choice.Text)
		r.Finish = append(r.Finish, string(choice.Finish))
	}
}

func (r *report) respond(response proto.Message, err error) error {
	if err == nil {
		r.Response = marshalled(response)
	}
	return err
}

func marshalled(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	if err != nil {
		panic(err)
	}
	return text
}
