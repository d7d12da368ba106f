#include "grpc_status.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <string_view>
#include <utility>

#include "lepton/client/rpc_status.pb.h"

namespace lepton::internal {
namespace {

constexpr std::string_view kDomain = "lepton";

// Whether `detail` is the message of google.rpc with this name; `message` has the few fields of it that we need.
template <class Message>
bool Unpack(const google::protobuf::Any& detail, std::string_view name, Message& message) {
  const std::string_view url = detail.type_url();
  return url.substr(url.rfind('/') + 1) == name && message.ParseFromString(detail.value());
}

std::string Value(const google::protobuf::Map<std::string, std::string>& map, const std::string& key) {
  const auto found = map.find(key);
  return found == map.end() ? std::string() : found->second;
}

void TakeDetails(const grpc::Status& status, ErrorInfo& info) {
  client::RpcStatus details;
  if (!details.ParseFromString(status.error_details())) return;
  for (const google::protobuf::Any& detail : details.details()) {
    client::RpcErrorInfo error;
    client::RpcRetryInfo retry;
    if (Unpack(detail, "google.rpc.ErrorInfo", error) && error.domain() == kDomain) {
      info.reason = error.reason();
      info.field = Value(error.metadata(), "field");
      const std::string retryable = Value(error.metadata(), "retryable");
      if (!retryable.empty()) info.retryable = retryable == "true";
    } else if (Unpack(detail, "google.rpc.RetryInfo", retry)) {
      info.retry_after = std::chrono::seconds(retry.retry_delay().seconds()) +
                         std::chrono::nanoseconds(retry.retry_delay().nanos());
    }
  }
}

// What a status means that comes from gRPC itself, or from a process that is going away.
void TakeBareStatus(const std::string& address, bool has_begun, ErrorInfo& info) {
  switch (info.code) {
    case StatusCode::kUnavailable:
      info.message = (has_begun ? "the connection to " + address + " broke" : "nothing answers at " + address) +
                     (info.message.empty() ? "" : ": " + info.message);
      info.reason = has_begun ? "WORKER_LOST" : "UNREACHABLE";
      break;
    case StatusCode::kDeadlineExceeded:
      info.reason = "DEADLINE_EXCEEDED";
      break;
    case StatusCode::kCancelled:
      info.reason = "CLIENT_GONE";
      break;
    default:
      break;
  }
}

using GrpcMetadata = std::multimap<grpc::string_ref, grpc::string_ref>;

void TakeId(const GrpcMetadata& metadata, const char* key, std::string& id) {
  if (const auto found = metadata.find(key); found != metadata.end()) {
    id.assign(found->second.data(), found->second.size());
  }
}

}  // namespace

Error FromStatus(const grpc::Status& status, CallIds ids, const std::string& address, bool has_begun) {
  ErrorInfo info{.code = static_cast<StatusCode>(status.error_code()), .message = status.error_message()};
  TakeDetails(status, info);
  if (info.reason.empty()) TakeBareStatus(address, has_begun, info);
  info.request_id = std::move(ids.request_id);
  info.trace_id = std::move(ids.trace_id);
  return Error(std::move(info));
}

CallIds IdsOf(const grpc::ClientContext& context, bool has_ended) {
  CallIds ids;
  const auto take = [&ids](const GrpcMetadata& metadata) {
    TakeId(metadata, "lepton-request-id", ids.request_id);
    TakeId(metadata, "lepton-trace-id", ids.trace_id);
  };
  if (has_ended) take(context.GetServerTrailingMetadata());
  take(context.GetServerInitialMetadata());
  return ids;
}

}  // namespace lepton::internal
