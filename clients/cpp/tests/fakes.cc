#include "fakes.h"

#include <gtest/gtest.h>

#include <utility>

namespace lepton::internal {
namespace {

template <class Value>
std::optional<Value> PopFront(std::deque<Value>& values) {
  if (values.empty()) return std::nullopt;
  Value value = std::move(values.front());
  values.pop_front();
  return value;
}

class FakeStream final : public PeerStream {
 public:
  FakeStream(FakePeer& peer, Script script) : peer_(peer), script_(std::move(script)) {}

  bool Next(v1::Event& event, std::optional<std::chrono::nanoseconds> silence_max) override {
    peer_.silences.push_back(silence_max);
    if (given_ < script_.events.size()) {
      event = script_.events[given_++];
      return true;
    }
    if (script_.error) throw *script_.error;
    return false;
  }
  const CallIds& ids() const override { return ids_; }

 private:
  FakePeer& peer_;
  Script script_;
  size_t given_ = 0;
  CallIds ids_ = {.request_id = "request", .trace_id = "trace"};
};

}  // namespace

std::unique_ptr<PeerStream> FakePeer::Generate(const v1::GenerateRequest& request, const Attempt& attempt) {
  asked.push_back(request);
  metadata.push_back(attempt.metadata);
  return std::make_unique<FakeStream>(*this, PopFront(scripts).value_or(Script{.error = Unreachable()}));
}

v1::PickResponse FakePeer::Pick(const v1::PickRequest& request, const Attempt&) {
  picked.push_back(request);
  const auto answer = PopFront(picks);
  if (!answer) throw Unreachable();
  if (const auto* error = std::get_if<Error>(&*answer)) throw *error;
  return std::get<v1::PickResponse>(*answer);
}

v1::AbortResponse FakePeer::Abort(const v1::AbortRequest& request, const Attempt&) {
  aborted.push_back(request.resume_token());
  return {};
}

FakeCluster::FakeCluster(ClientOptions options) {
  const auto make = [this](const std::string& address) {
    at(address);
    return peers[address];
  };
  core = std::make_shared<Core>(std::move(options), make, clock, [] { return 0.5; });
}

FakePeer& FakeCluster::at(const std::string& address) {
  std::shared_ptr<FakePeer>& peer = peers[address];
  if (peer == nullptr) peer = std::make_shared<FakePeer>();
  return *peer;
}

std::shared_ptr<Call> FakeCluster::Begin(std::optional<std::chrono::milliseconds> timeout) {
  return std::make_shared<Call>(core, CallOptions{.timeout = timeout});
}

Error MakeError(StatusCode code, const std::string& reason, const std::string& field) {
  return Error({.code = code, .message = "told so", .reason = reason, .field = field});
}

Error Unreachable() { return MakeError(StatusCode::kUnavailable, "UNREACHABLE"); }

v1::Event StartedEvent(const std::string& resume_token) {
  v1::Event event;
  event.mutable_started()->set_resume_token(resume_token);
  event.mutable_started()->set_seed(7);
  event.mutable_started()->set_prompt_tokens(3);
  event.mutable_started()->set_request_id("request");
  return event;
}

v1::Event DeltaEvent(uint64_t seq, const std::string& text, uint32_t token_id, uint32_t index) {
  v1::Event event;
  event.set_seq(seq);
  event.mutable_delta()->set_index(index);
  event.mutable_delta()->set_text(text);
  event.mutable_delta()->add_token_ids(token_id);
  return event;
}

v1::Event MigratedEvent(uint64_t seq, const std::string& resume_token) {
  v1::Event event;
  event.set_seq(seq);
  event.mutable_migrated()->set_resume_token(resume_token);
  return event;
}

v1::Event FinishedEvent(uint64_t seq) {
  v1::Event event;
  event.set_seq(seq);
  event.mutable_finished()->mutable_usage()->set_completion_tokens(2);
  return event;
}

std::vector<uint64_t> ReadAll(EventSource& source) {
  std::vector<uint64_t> numbers;
  v1::Event event;
  while (source.Next(event)) numbers.push_back(event.seq());
  return numbers;
}

Error ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return MakeError(StatusCode::kOk, "");
}

}  // namespace lepton::internal
