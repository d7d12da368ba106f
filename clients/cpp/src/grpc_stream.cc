#include "grpc_stream.h"

#include <grpcpp/support/status.h>

#include <sstream>
#include <utility>

#include "errors.h"
#include "grpc_status.h"

namespace lepton::internal {
namespace {

using Wall = std::chrono::system_clock;  // what gRPC wants; only differences to now go in

Wall::time_point After(std::chrono::nanoseconds time) {
  return Wall::now() + std::chrono::duration_cast<Wall::duration>(time);
}

}  // namespace

void Prepare(const Attempt& attempt, grpc::ClientContext& context) {
  context.set_deadline(After(attempt.timeout));
  for (const auto& [key, value] : attempt.metadata) context.AddMetadata(key, value);
}

GrpcStream::GrpcStream(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request, const Attempt& attempt,
                       std::string address)
    : address_(std::move(address)), hook_(attempt.cancellation, [this] { context_.TryCancel(); }) {
  Prepare(attempt, context_);
  reader_ = stub.PrepareAsyncGenerate(&context_, request, &queue_);
  reader_->StartCall(this);
}

GrpcStream::~GrpcStream() {
  if (!has_ended_) context_.TryCancel();
  // gRPC writes into what it was lent until each operation has come back.
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) continue;
}

bool GrpcStream::Next(v1::Event& event, std::optional<std::chrono::nanoseconds> silence_max) {
  if (has_ended_) return false;
  while (given_ == response_.events_size()) {
    if (!Read(silence_max)) {
      Finish();
      return false;
    }
  }
  event.Swap(response_.mutable_events(given_++));
  return true;
}

bool GrpcStream::Read(std::optional<std::chrono::nanoseconds> silence_max) {
  if (!connected_ && !Wait(std::nullopt)) return false;
  connected_ = true;
  given_ = 0;
  response_.Clear();
  reader_->Read(&response_, this);
  if (!Wait(silence_max)) return false;
  if (!std::exchange(has_begun_, true)) ids_ = IdsOf(context_, false);
  return true;
}

// Waits for the one operation that is under way; whether it went well.
bool GrpcStream::Wait(std::optional<std::chrono::nanoseconds> at_most) {
  void* tag = nullptr;
  bool ok = false;
  if (!at_most) return queue_.Next(&tag, &ok) && ok;
  if (queue_.AsyncNext(&tag, &ok, After(*at_most)) != grpc::CompletionQueue::TIMEOUT) return ok;
  std::ostringstream message;
  message << address_ << " said nothing for " << std::chrono::duration<double>(*at_most).count() << " s";
  throw StreamLost(message.str());
}

void GrpcStream::Finish() {
  grpc::Status status;
  reader_->Finish(&status, this);
  Wait(std::nullopt);
  has_ended_ = true;
  if (status.ok()) return;
  if (!has_begun_) ids_ = IdsOf(context_, true);
  throw FromStatus(status, ids_, address_, has_begun_);
}

}  // namespace lepton::internal
