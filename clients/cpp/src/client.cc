#include "lepton/client.h"

#include <random>
#include <utility>

#include "call.h"
#include "direct.h"
#include "errors.h"
#include "grpc_peer.h"
#include "relayed.h"
#include "retry.h"
#include "text_request.h"

namespace lepton {
namespace {

using internal::Call;
using internal::Peer;

void Check(const ClientOptions& options) {
  if (options.addresses.empty()) {
    throw internal::InvalidArgument("no router is named; give at least one HOST:PORT", "FIELD_REQUIRED", "addresses");
  }
  if (options.resume && options.direct) {
    throw internal::InvalidArgument("resume goes through a router, direct does not; choose one (a direct stream goes on "
                                    "by itself when its worker is lost)",
                                    "FIELDS_CONTRADICT", "resume");
  }
}

double Draw() {
  thread_local std::minstd_rand random(std::random_device{}());
  return std::uniform_real_distribution<double>()(random);
}

// A unary call, at whichever router answers.
template <class Request, class Response>
Response Ask(const std::shared_ptr<Call>& call, Response (Peer::*method)(const Request&, const internal::Attempt&),
             const Request& request) {
  return internal::WithRetries(*call, [&] {
    return call->route().AskOne([&](Peer& router) { return (router.*method)(request, call->NextAttempt()); });
  });
}

}  // namespace

Client::Client(ClientOptions options) {
  Check(options);
  const auto credentials = options.credentials;
  core_ = std::make_shared<internal::Core>(
      std::move(options),
      [credentials](const std::string& address) { return internal::MakeGrpcPeer(address, credentials); },
      std::make_shared<internal::Clock>(), Draw);
}

Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Stream Client::Generate(v1::GenerateRequest request, const CallOptions& options) {
  std::shared_ptr<Call> call = Begin(options);
  std::unique_ptr<internal::EventSource> events;
  if (core_->options.direct) {
    events = std::make_unique<internal::DirectEvents>(*call, std::move(request));
  } else {
    events = std::make_unique<internal::RelayedEvents>(*call, std::move(request));
  }
  return Stream(std::move(call), std::move(events));
}

TextStream Client::Complete(std::string_view text, const TextOptions& options) {
  return TextStream(Generate(internal::CompleteRequest(text, options), {.timeout = options.timeout}));
}

TextStream Client::Chat(const std::vector<Message>& messages, const TextOptions& options) {
  return TextStream(Generate(internal::ChatRequest(messages, options), {.timeout = options.timeout}));
}

v1::TokenizeResponse Client::Tokenize(const v1::TokenizeRequest& request, const CallOptions& options) {
  return Ask(Begin(options), &Peer::Tokenize, request);
}

v1::DetokenizeResponse Client::Detokenize(const v1::DetokenizeRequest& request, const CallOptions& options) {
  return Ask(Begin(options), &Peer::Detokenize, request);
}

v1::CountTokensResponse Client::CountTokens(const v1::CountTokensRequest& request, const CallOptions& options) {
  return Ask(Begin(options), &Peer::CountTokens, request);
}

v1::ListModelsResponse Client::ListModels(const CallOptions& options) {
  return Ask(Begin(options), &Peer::ListModels, v1::ListModelsRequest());
}

std::shared_ptr<Call> Client::Begin(const CallOptions& options) { return std::make_shared<Call>(core_, options); }

}  // namespace lepton
