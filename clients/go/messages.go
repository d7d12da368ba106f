package lepton

import "github.com/lepton/lepton/clients/go/leptonv1"

// Messages is a conversation, oldest message first.
func Messages(messages ...*leptonv1.ChatMessage) []*leptonv1.ChatMessage { return messages }

// System gives instructions that hold for the whole conversation.
func System(text string) *leptonv1.ChatMessage { return message(leptonv1.Role_ROLE_SYSTEM, text) }

// User is what the person or program says that asks.
func User(text string) *leptonv1.ChatMessage { return message(leptonv1.Role_ROLE_USER, text) }

// Assistant is what the model has said before.
func Assistant(text string) *leptonv1.ChatMessage { return message(leptonv1.Role_ROLE_ASSISTANT, text) }

func message(role leptonv1.Role, text string) *leptonv1.ChatMessage {
	return &leptonv1.ChatMessage{Role: role, Content: text}
}
