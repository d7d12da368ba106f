// The client over real gRPC, against a server in this process.

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "fakes.h"
#include "grpc_peer.h"
#include "lepton/client.h"
#include "lepton/v1/inference.grpc.pb.h"

namespace lepton::internal {
namespace {

// Sends `Started` and one delta, then nothing until its client goes away.
class Mute final : public v1::InferenceService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest*,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    context->AddInitialMetadata("lepton-trace-id", "t1");
    v1::GenerateResponse response;
    *response.add_events() = StartedEvent();
    *response.add_events() = DeltaEvent(1, "a");
    writer->Write(response);
    while (!context->IsCancelled()) std::this_thread::yield();
    left_.set_value();
    return grpc::Status::CANCELLED;
  }

  /// Returns once a client has gone away.
  void AwaitLeft() { left_.get_future().wait(); }

 private:
  std::promise<void> left_;
};

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~GrpcTest() override { server_->Shutdown(); }

  Mute service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(GrpcTest, LeavingTheLoopEndsTheCallAtTheServer) {
  Client client({.addresses = {address_}});
  for (const v1::Event& event : client.Generate({})) {
    if (event.has_delta()) break;
  }
  service_.AwaitLeft();
}

TEST_F(GrpcTest, AnotherThreadCancelsWhoeverWaits) {
  Client client({.addresses = {address_}});
  Stream stream = client.Generate({});
  v1::Event event;
  ASSERT_TRUE(stream.Next(event));
  EXPECT_EQ(stream.trace_id(), "t1");
  ASSERT_TRUE(stream.Next(event));
  std::thread other([&] { stream.Cancel(); });
  EXPECT_EQ(ErrorOf([&] { stream.Next(event); }).kind(), ErrorKind::kCancelled);
  other.join();
  service_.AwaitLeft();
}

TEST_F(GrpcTest, SilenceEndsAStreamAsItsLoss) {
  const std::shared_ptr<Peer> peer = MakeGrpcPeer(address_, nullptr);
  Cancellation cancellation;
  const auto stream = peer->Generate({}, {.timeout = std::chrono::hours(1), .metadata = {}, .cancellation = cancellation});
  v1::Event event;
  ASSERT_TRUE(stream->Next(event, std::nullopt));
  ASSERT_TRUE(stream->Next(event, std::nullopt));
  EXPECT_EQ(ErrorOf([&] { stream->Next(event, std::chrono::milliseconds(20)); }).reason(), "WORKER_LOST");
}

TEST_F(GrpcTest, TheDeadlineEndsTheCall) {
  Client client({.addresses = {address_}});
  const Error error = ErrorOf([&] {
    for (const v1::Event& event : client.Generate({}, {.timeout = std::chrono::milliseconds(200)})) (void)event;
  });
  EXPECT_EQ(error.reason(), "DEADLINE_EXCEEDED");
}

TEST_F(GrpcTest, AnUnknownMethodIsNotRetried) {
  Client client({.addresses = {address_}});
  EXPECT_EQ(ErrorOf([&] { client.ListModels(); }).kind(), ErrorKind::kUnsupported);
}

TEST_F(GrpcTest, TheNextAddressIsTriedWhenNobodyListens) {
  Client client({.addresses = {"127.0.0.1:1", address_}, .retry = false});
  v1::Event event;
  EXPECT_TRUE(client.Generate({}).Next(event));
}

TEST(Grpc, NobodyListens) {
  Client client({.addresses = {"127.0.0.1:1"}, .retry = false});
  const Error error = ErrorOf([&] { client.ListModels(); });
  EXPECT_EQ(error.reason(), "UNREACHABLE");
  EXPECT_EQ(error.kind(), ErrorKind::kUnavailable);
}

}  // namespace
}  // namespace lepton::internal
