#include "record.h"

#include "errors.h"

namespace lepton::internal {

Record::Record(uint32_t num_choices) : num_choices_(num_choices) {}

void Record::Take(const v1::Event& event) {
  const uint64_t due = so_far_.next_seq();
  if (event.seq() != due) {
    throw StreamFault("event " + std::to_string(event.seq()) + " came where " + std::to_string(due) + " was due");
  }
  if (finished_) throw StreamFault("event " + std::to_string(event.seq()) + " came after the end");
  if (event.has_started()) started_ = event.started();
  if (event.has_delta()) TakeDelta(event.delta());
  if (event.has_finished()) finished_ = true;
  so_far_.set_next_seq(due + 1);
}

v1::Continuation Record::Continue(uint32_t attempt, const std::string& from_worker_id) const {
  v1::Continuation continuation = so_far_;
  while (static_cast<uint32_t>(continuation.choices_size()) < num_choices_) continuation.add_choices();
  continuation.set_seed(started_->seed());
  continuation.set_prompt_tokens(started_->prompt_tokens());
  continuation.set_cached_tokens(started_->cached_tokens());
  continuation.set_attempt(attempt);
  continuation.set_from_worker_id(from_worker_id);
  return continuation;
}

void Record::TakeDelta(const v1::Delta& delta) {
  v1::ContinuedChoice& choice = ChoiceAt(delta.index());
  if (choice.has_end()) throw StreamFault("more of choice " + std::to_string(delta.index()) + " came after its end");
  choice.mutable_token_ids()->MergeFrom(delta.token_ids());
  if (delta.has_end()) *choice.mutable_end() = delta.end();
}

v1::ContinuedChoice& Record::ChoiceAt(uint32_t index) {
  if (index >= num_choices_) throw StreamFault("choice " + std::to_string(index) + " was not asked for");
  while (static_cast<uint32_t>(so_far_.choices_size()) <= index) so_far_.add_choices();
  return *so_far_.mutable_choices(static_cast<int>(index));
}

}  // namespace lepton::internal
