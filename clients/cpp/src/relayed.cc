#include "relayed.h"

#include <string>
#include <utility>

#include "errors.h"
#include "retry.h"

namespace lepton::internal {
namespace {

bool IsBroken(const Error& error) { return error.Is(ErrorKind::kUnavailable) || IsLostConnection(error); }

}  // namespace

RelayedEvents::RelayedEvents(Call& call, v1::GenerateRequest request) : call_(call), request_(std::move(request)) {
  if (call_.core().options.resume && !request_.has_resumable_ms()) request_.set_resumable_ms(kResumableMs);
  // Resumed by hand: it begins in the middle.
  const v1::ResumeFrom& resume = request_.resume();
  if (resume.has_after_seq()) next_seq_ = resume.after_seq() + 1;
  call_.set_resume_token(resume.resume_token());
}

bool RelayedEvents::Next(v1::Event& event) {
  while (!finished_) {
    try {
      if (stream_ == nullptr) Open();
      if (!Read(event)) throw StreamLost("the stream ended before its end");
      if (!IsNew(event)) continue;
      Take(event);
      return true;
    } catch (const Error& error) {
      stream_.reset();
      call_.cancellation().Check();
      PauseBeforeResuming(error);
    }
  }
  if (const auto stream = std::move(stream_)) Settle(*stream);
  return false;
}

// Whoever accepts a call answers with `Started` at once; until then it can be made again.
void RelayedEvents::Open() {
  const auto open = [this] {
    return call_.route().AskOne([this](Peer& router) { return OpenAt(router); });
  };
  stream_ = has_begun_ ? open() : WithRetries(call_, open);
}

std::unique_ptr<PeerStream> RelayedEvents::OpenAt(Peer& router) {
  std::unique_ptr<PeerStream> stream = router.Generate(request_, call_.NextAttempt());
  v1::Event event;
  if (!stream->Next(event, std::nullopt)) throw StreamLost("the stream ended before it began");
  call_.ids = stream->ids();
  first_ = std::move(event);
  return stream;
}

bool RelayedEvents::Read(v1::Event& event) {
  if (!first_) return stream_->Next(event, std::nullopt);
  event = *std::exchange(first_, std::nullopt);
  return true;
}

bool RelayedEvents::IsNew(const v1::Event& event) const {
  if (event.seq() > next_seq_) {
    throw StreamFault("event " + std::to_string(event.seq()) + " came where " + std::to_string(next_seq_) + " was due");
  }
  return event.seq() == next_seq_;
}

void RelayedEvents::Take(const v1::Event& event) {
  ++next_seq_;
  has_begun_ = true;
  barren_ = 0;
  finished_ = event.has_finished();
  if (event.has_started()) call_.set_resume_token(event.started().resume_token());
  if (event.has_migrated()) call_.set_resume_token(event.migrated().resume_token());
}

void RelayedEvents::PauseBeforeResuming(const Error& error) {
  const std::string token = call_.resume_token();
  if (!call_.core().options.resume || !has_begun_ || token.empty() || !IsBroken(error) || barren_ == kBarrenMax) throw error;
  PauseOrThrow(call_, ++barren_, error);
  call_.route().Lost();
  request_.mutable_resume()->set_resume_token(token);
  request_.mutable_resume()->set_after_seq(next_seq_ - 1);
}

}  // namespace lepton::internal
