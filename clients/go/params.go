package lepton

import "github.com/lepton/lepton/clients/go/leptonv1"

// Param sets something of the request of [Client.Complete] or [Client.Chat]. The functions below give the common ones;
// any other is a function of your own. What is not set has the default that the proto states; the cluster checks all.
type Param func(*leptonv1.GenerateRequest)

func applied(request *leptonv1.GenerateRequest, params []Param) *leptonv1.GenerateRequest {
	for _, param := range params {
		param(request)
	}
	return request
}

func sampling(set func(*leptonv1.SamplingParams)) Param {
	return func(r *leptonv1.GenerateRequest) {
		if r.Sampling == nil {
			r.Sampling = &leptonv1.SamplingParams{}
		}
		set(r.Sampling)
	}
}

func stop(set func(*leptonv1.StopConditions)) Param {
	return func(r *leptonv1.GenerateRequest) {
		if r.Stop == nil {
			r.Stop = &leptonv1.StopConditions{}
		}
		set(r.Stop)
	}
}

// Model names the model; only needed where a cluster serves several.
func Model(name string) Param {
	return func(r *leptonv1.GenerateRequest) { r.Model = name }
}

// RequestID names the call in logs and traces.
func RequestID(id string) Param {
	return func(r *leptonv1.GenerateRequest) { r.RequestId = id }
}

// SessionKey makes requests with the same key prefer the same worker.
func SessionKey(key string) Param {
	return func(r *leptonv1.GenerateRequest) { r.SessionKey = key }
}

// Priority says how urgent the request is.
func Priority(priority leptonv1.Priority) Param {
	return func(r *leptonv1.GenerateRequest) { r.Priority = priority }
}

// MaxTokens bounds the tokens of each choice.
func MaxTokens(n uint32) Param {
	return stop(func(s *leptonv1.StopConditions) { s.MaxTokens = &n })
}

// MinTokens keeps a choice from ending earlier.
func MinTokens(n uint32) Param {
	return stop(func(s *leptonv1.StopConditions) { s.MinTokens = &n })
}

// Stop adds texts that end the answer and are not part of it.
func Stop(texts ...string) Param {
	return stop(func(s *leptonv1.StopConditions) { s.Strings = append(s.Strings, texts...) })
}

// Temperature 0, the default, picks the most likely token.
func Temperature(t float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.Temperature = &t })
}

// TopP keeps the smallest set of tokens with that share of the probability.
func TopP(p float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.TopP = &p })
}

// TopK keeps that many most likely tokens.
func TopK(k uint32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.TopK = &k })
}

// MinP keeps tokens with at least that share of the highest probability.
func MinP(p float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.MinP = &p })
}

// RepetitionPenalty makes tokens that were seen less likely.
func RepetitionPenalty(penalty float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.RepetitionPenalty = &penalty })
}

// FrequencyPenalty is subtracted for each earlier occurrence of a token.
func FrequencyPenalty(penalty float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.FrequencyPenalty = &penalty })
}

// PresencePenalty is subtracted once for a token that occurred.
func PresencePenalty(penalty float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.PresencePenalty = &penalty })
}

// LogitBias is added to the logits of tokens, by id.
func LogitBias(bias map[uint32]float32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.LogitBias = bias })
}

// Seed makes the draw repeatable.
func Seed(seed uint64) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.Seed = &seed })
}

// NumChoices asks for several answers.
func NumChoices(n uint32) Param {
	return sampling(func(s *leptonv1.SamplingParams) { s.N = &n })
}

// JSONSchema makes the answer a JSON text that the schema accepts.
func JSONSchema(schema string) Param {
	return func(r *leptonv1.GenerateRequest) {
		r.Constraint = &leptonv1.Constraint{Kind: &leptonv1.Constraint_JsonSchema{JsonSchema: schema}}
	}
}

// Regex makes the whole answer match an expression.
func Regex(expression string) Param {
	return func(r *leptonv1.GenerateRequest) {
		r.Constraint = &leptonv1.Constraint{Kind: &leptonv1.Constraint_Regex{Regex: expression}}
	}
}
