#include "channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <regex>

#include "errors.h"

namespace lepton::internal {
namespace {

constexpr int kMessageBytesMax = 64 << 20;
// What a stream that nobody reads may hold here; gRPC's own estimate grows to megabytes, and tokens are small.
constexpr int kStreamWindowBytes = 32 << 10;
// A peer that vanished without a FIN is noticed within 10 + 5 s.
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
// A restarted process is found again within a second, not after gRPC's two minutes.
constexpr int kReconnectFirstMs = 100;
constexpr int kReconnectMaxMs = 1'000;
// Despite its option's name this is how long one try to connect may take.
constexpr int kConnectMaxMs = 5'000;

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt("grpc.http2.lookahead_bytes", kStreamWindowBytes);
  arguments.SetInt("grpc.http2.bdp_probe", 0);
  arguments.SetInt("grpc.keepalive_time_ms", kKeepaliveMs);
  arguments.SetInt("grpc.keepalive_timeout_ms", kKeepaliveTimeoutMs);
  arguments.SetInt("grpc.http2.max_pings_without_data", 0);
  arguments.SetInt("grpc.initial_reconnect_backoff_ms", kReconnectFirstMs);
  arguments.SetInt("grpc.min_reconnect_backoff_ms", kConnectMaxMs);
  arguments.SetInt("grpc.max_reconnect_backoff_ms", kReconnectMaxMs);
  // Retrying is our decision: we know what has reached the caller.
  arguments.SetInt("grpc.enable_retries", 0);
  // Clients of one address must not share a connection's back-off.
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);
  // An http_proxy in the environment is not meant for a cluster.
  arguments.SetInt("grpc.enable_http_proxy", 0);
  return arguments;
}

}  // namespace

void CheckAddress(const std::string& address) {
  static const std::regex kAddress(R"((\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5})");
  if (std::regex_match(address, kAddress)) return;
  throw InvalidArgument("\"" + address + "\" is not an address; write HOST:PORT, for example 127.0.0.1:50051",
                        "FIELD_MALFORMED", "addresses");
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  return grpc::CreateCustomChannel(address, credentials ? credentials : grpc::InsecureChannelCredentials(),
                                   Arguments());
}

}  // namespace lepton::internal
