#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_stream.h>

#include <memory>
#include <optional>
#include <string>

#include "lepton/v1/inference.grpc.pb.h"
#include "peer.h"

namespace lepton::internal {

/// Fills in what goes with an attempt.
void Prepare(const Attempt& attempt, grpc::ClientContext& context);

/// The events of one Generate over gRPC. It has a completion queue to itself, since only that can wait for a message with
/// a limit of time; nothing is read that nobody asks for, so that a slow reader slows the worker.
class GrpcStream final : public PeerStream {
 public:
  GrpcStream(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request, const Attempt& attempt,
             std::string address);
  ~GrpcStream() override;

  bool Next(v1::Event& event, std::optional<std::chrono::nanoseconds> silence_max) override;
  const CallIds& ids() const override { return ids_; }

 private:
  bool Read(std::optional<std::chrono::nanoseconds> silence_max);
  bool Wait(std::optional<std::chrono::nanoseconds> at_most);
  void Finish();

  const std::string address_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
  Cancellation::Hook hook_;
  v1::GenerateResponse response_;
  int given_ = 0;  // events of `response_` that were given out
  bool connected_ = false;
  bool has_begun_ = false;
  bool has_ended_ = false;
  CallIds ids_;
};

}  // namespace lepton::internal
