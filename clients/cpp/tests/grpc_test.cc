// The client over real gRPC, against a server in this process.

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
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
  explicit GrpcTest(const std::shared_ptr<grpc::ServerCredentials>& credentials = grpc::InsecureServerCredentials()) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~GrpcTest() override { server_->Shutdown(); }

  Mute service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

// A certificate for this machine, signed by itself, and its key.
grpc::SslServerCredentialsOptions::PemKeyCertPair MakeCertificate() {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("lepton-tls-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::string key = folder / "key.pem";
  const std::string certificate = folder / "certificate.pem";
  const std::string command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext "
                              "subjectAltName=IP:127.0.0.1 -keyout " + key + " -out " + certificate + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) ADD_FAILURE() << "the program openssl is missing or failed";
  const auto read = [](const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair{read(key), read(certificate)};
  std::filesystem::remove_all(folder);
  return pair;
}

class TlsTest : public GrpcTest {
 protected:
  TlsTest() : TlsTest(MakeCertificate()) {}

  bool HearsFrom(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    Client client({.addresses = {address_}, .credentials = credentials, .retry = false});
    v1::Event event;
    try {
      return client.Generate({}).Next(event);
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), "UNREACHABLE");
      return false;
    }
  }

  std::string certificate_;

 private:
  explicit TlsTest(const grpc::SslServerCredentialsOptions::PemKeyCertPair& pair)
      : GrpcTest(grpc::SslServerCredentials(OptionsOf(pair))), certificate_(pair.cert_chain) {}

  static grpc::SslServerCredentialsOptions OptionsOf(const grpc::SslServerCredentialsOptions::PemKeyCertPair& pair) {
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs = {pair};
    return options;
  }
};

TEST_F(TlsTest, TakesTheCredentialsOfTheCaller) {
  EXPECT_TRUE(HearsFrom(grpc::SslCredentials({.pem_root_certs = certificate_, .pem_private_key = {}, .pem_cert_chain = {}})));
}

TEST_F(TlsTest, TrustsNobodyElse) {
  EXPECT_FALSE(HearsFrom(grpc::SslCredentials({})));
  EXPECT_FALSE(HearsFrom(nullptr));
}

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
