#include "command.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <stdexcept>
#include <utility>

namespace driver {
namespace {

using nlohmann::json;

template <class Value>
void Read(const json& object, const char* key, Value& value) {
  if (object.contains(key)) value = object.at(key).get<Value>();
}

template <class Value>
void Read(const json& object, const char* key, std::optional<Value>& value) {
  if (object.contains(key)) value = object.at(key).get<Value>();
}

lepton::ClientOptions OptionsOf(const json& line, const json& told) {
  lepton::ClientOptions options;
  Read(line, "addresses", options.addresses);
  Read(told, "direct", options.direct);
  Read(told, "resume", options.resume);
  Read(told, "retry", options.retry);
  Read(told, "api_key", options.api_key);
  Read(told, "caller", options.caller);
  if (told.contains("metadata")) {
    for (const auto& [key, value] : told["metadata"].items()) options.metadata.emplace_back(key, value);
  }
  if (told.contains("traceparent")) {
    options.traceparent = [traceparent = told["traceparent"].get<std::string>()] { return traceparent; };
  }
  if (told.contains("tls_ca")) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = told["tls_ca"].get<std::string>();
    options.credentials = grpc::SslCredentials(tls);
  }
  if (told.contains("timeout_s")) {
    const std::chrono::duration<double> timeout(told["timeout_s"].get<double>());
    options.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(timeout);
  }
  return options;
}

}  // namespace

Command CommandOf(const json& line) {
  const json told = line.value("options", json::object());
  Command command{.id = line.at("id"),
                  .op = line.at("op"),
                  .request = line.value("request", json::object()),
                  .options = OptionsOf(line, told),
                  .cancel_after_events = std::nullopt};
  Read(told, "cancel_after_events", command.cancel_after_events);
  return command;
}

void Parse(const json& request, google::protobuf::Message& message) {
  const auto status = google::protobuf::util::JsonStringToMessage(request.dump(), &message);
  if (!status.ok()) throw std::runtime_error("the request is not JSON of protobuf: " + status.ToString());
}

std::vector<lepton::Message> MessagesOf(const json& request) {
  std::vector<lepton::Message> messages;
  for (const json& message : request.at("messages")) {
    messages.push_back({.role = message.at("role"), .content = message.value("content", "")});
  }
  return messages;
}

lepton::TextOptions TextOptionsOf(const json& request) {
  lepton::TextOptions options;
  Read(request, "model", options.model);
  Read(request, "max_tokens", options.max_tokens);
  Read(request, "temperature", options.temperature);
  Read(request, "top_p", options.top_p);
  Read(request, "top_k", options.top_k);
  Read(request, "min_p", options.min_p);
  Read(request, "seed", options.seed);
  Read(request, "n", options.n);
  Read(request, "stop", options.stop);
  Read(request, "json_schema", options.json_schema);
  Read(request, "session_key", options.session_key);
  Read(request, "request_id", options.request_id);
  return options;
}

}  // namespace driver
