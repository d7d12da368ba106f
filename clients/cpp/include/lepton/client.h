#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "lepton/error.h"
#include "lepton/options.h"
#include "lepton/stream.h"
#include "lepton/text.h"
#include "lepton/v1/inference.pb.h"

namespace lepton {

namespace internal {
struct Core;
class Call;
}  // namespace internal

/// Calls one Lepton cluster, through one or more routers. Connections are made when they are needed and kept.
///
/// All methods may be called by many threads at once. All but the constructor wait for the network; all throw `Error`.
/// The streams that it returns begin when they are first read.
class Client {
 public:
  /// Throws `Error` (INVALID_ARGUMENT) for options that cannot hold: no address, one that is not HOST:PORT, metadata that
  /// HTTP/2 does not allow, `resume` with `direct`.
  explicit Client(ClientOptions options);
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Generates tokens, event by event.
  Stream Generate(v1::GenerateRequest request, const CallOptions& options = {});

  /// Goes on with `text`, as text.
  TextStream Complete(std::string_view text, const TextOptions& options = {});

  /// Answers a conversation, as text. Throws for a role that is none.
  TextStream Chat(const std::vector<Message>& messages, const TextOptions& options = {});

  /// The token ids of a text or a conversation.
  v1::TokenizeResponse Tokenize(const v1::TokenizeRequest& request, const CallOptions& options = {});

  /// The text of token ids.
  v1::DetokenizeResponse Detokenize(const v1::DetokenizeRequest& request, const CallOptions& options = {});

  /// How many tokens a text or a conversation has.
  v1::CountTokensResponse CountTokens(const v1::CountTokensRequest& request, const CallOptions& options = {});

  /// What can be asked now.
  v1::ListModelsResponse ListModels(const CallOptions& options = {});

 private:
  std::shared_ptr<internal::Call> Begin(const CallOptions& options);

  std::shared_ptr<internal::Core> core_;
};

}  // namespace lepton
