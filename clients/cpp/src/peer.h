#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cancellation.h"
#include "lepton/options.h"
#include "lepton/v1/inference.pb.h"

namespace lepton::internal {

/// How a peer named a call.
struct CallIds {
  std::string request_id = {};
  std::string trace_id = {};
};

/// What goes with one try of a call at one peer.
struct Attempt {
  std::chrono::nanoseconds timeout;
  Metadata metadata;
  Cancellation& cancellation;  // outlives the attempt
};

/// The events that one peer sends for one Generate. Destroying it ends the call there.
class PeerStream {
 public:
  virtual ~PeerStream() = default;
  /// Waits for the next event. False: the peer has ended the stream with OK. Throws `Error`, also when nothing came for
  /// `silence_max`.
  virtual bool Next(v1::Event& event, std::optional<std::chrono::nanoseconds> silence_max) = 0;
  /// Known from the first event on.
  virtual const CallIds& ids() const = 0;
};

/// Waits, a second at most, for the status of a stream that has told `Finished`: who hangs up before it would look like
/// somebody who went away.
void Settle(PeerStream& stream);

/// One router or worker: one try of each call. Errors come out as `Error`; one for which `IsLostConnection` holds says that
/// nothing answered. May be used by many threads.
class Peer {
 public:
  virtual ~Peer() = default;
  /// Begins at once or when it is first read.
  virtual std::unique_ptr<PeerStream> Generate(const v1::GenerateRequest& request, const Attempt& attempt) = 0;
  virtual v1::PickResponse Pick(const v1::PickRequest& request, const Attempt& attempt) = 0;
  virtual v1::TokenizeResponse Tokenize(const v1::TokenizeRequest& request, const Attempt& attempt) = 0;
  virtual v1::DetokenizeResponse Detokenize(const v1::DetokenizeRequest& request, const Attempt& attempt) = 0;
  virtual v1::CountTokensResponse CountTokens(const v1::CountTokensRequest& request, const Attempt& attempt) = 0;
  virtual v1::ListModelsResponse ListModels(const v1::ListModelsRequest& request, const Attempt& attempt) = 0;
  virtual v1::AbortResponse Abort(const v1::AbortRequest& request, const Attempt& attempt) = 0;
};

/// Makes the peer at HOST:PORT.
using PeerFactory = std::function<std::shared_ptr<Peer>(const std::string& address)>;

}  // namespace lepton::internal
