#include "direct.h"

#include <random>
#include <sstream>
#include <string>
#include <utility>

#include "errors.h"
#include "metadata.h"
#include "retry.h"

namespace lepton::internal {
namespace {

uint32_t NumChoices(const v1::GenerateRequest& request) {
  return request.sampling().has_n() ? request.sampling().n() : 1;
}

// One name at all the workers that the call may take.
std::string NewRequestId() {
  std::random_device random;
  std::ostringstream id;
  id << "direct-" << std::hex << random() << random();
  return id.str();
}

}  // namespace

DirectEvents::DirectEvents(Call& call, v1::GenerateRequest request)
    : call_(call),
      hides_ids_(request.output().has_token_ids() && !request.output().token_ids()),
      record_(NumChoices(request)) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  *asked_.mutable_request() = std::move(request);
}

bool DirectEvents::Next(v1::Event& event) {
  while (!record_.finished()) {
    call_.cancellation().Check();
    if (stream_ == nullptr) Start();
    try {
      if (Read(event)) return true;
      throw StreamLost("worker " + picked_.worker_id() + " ended the stream before its end");
    } catch (const Error& error) {
      stream_.reset();
      call_.cancellation().Check();
      MoveOrThrow(Meant(error));
    }
  }
  if (const auto stream = std::move(stream_)) Settle(*stream);
  return false;
}

void DirectEvents::Start() {
  Pick();
  has_answered_ = false;
  stream_ = call_.core().workers.At(picked_.address())->Generate(
      ForWorker(), call_.NextAttempt({{kTicketKey, picked_.ticket()}}));
}

void DirectEvents::Pick() {
  const auto ask = [this] {
    return call_.route().AskOne([this](Peer& router) { return router.Pick(asked_, call_.NextAttempt()); });
  };
  // Nothing is made twice after the first event, since the next router's answer would be the same.
  picked_ = record_.has_begun() ? ask() : WithRetries(call_, ask);
}

v1::GenerateRequest DirectEvents::ForWorker() const {
  v1::GenerateRequest request = asked_.request();
  request.set_model(picked_.model());
  request.set_revision(picked_.revision());
  request.mutable_output()->set_token_ids(true);  // a move needs them
  if (continuation_) *request.mutable_continuation() = *continuation_;
  return request;
}

bool DirectEvents::Read(v1::Event& event) {
  const auto silence_max = has_answered_ ? std::optional(kSilenceMax) : std::nullopt;
  if (!stream_->Next(event, silence_max)) return false;
  record_.Take(event);
  if (!has_answered_) {
    has_answered_ = true;
    call_.ids = stream_->ids();
    v1::StreamOrigin& origin = *asked_.mutable_origin();
    origin.set_worker_id(picked_.worker_id());
    origin.set_model(picked_.model());
    origin.set_revision(picked_.revision());
    origin.set_fingerprint(picked_.fingerprint());
  }
  if (hides_ids_ && event.has_delta()) event.mutable_delta()->clear_token_ids();
  return true;
}

void DirectEvents::MoveOrThrow(const Error& error) {
  const Break how = BreakOf(error, !has_answered_);
  if (call_.Left() <= std::chrono::nanoseconds::zero() || !moves_.Count(how)) {
    // Who declined to help is not what happened to the stream.
    throw how == Break::kRefusal && failure_ ? *failure_ : error;
  }
  asked_.add_failed_tickets(picked_.ticket());
  if (how == Break::kRefusal) return;
  failure_ = error;
  if (record_.has_begun()) continuation_ = record_.Continue(moves_.attempt(), picked_.worker_id());
}

// A worker that cannot be reached, or tears down a call that we did not end, is lost.
Error DirectEvents::Meant(const Error& error) const {
  if (!IsLostConnection(error)) return error;
  return StreamLost("worker " + picked_.worker_id() + " cannot be reached or closed the connection");
}

}  // namespace lepton::internal
