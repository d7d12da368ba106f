#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace grpc {
class ChannelCredentials;
}

namespace lepton {

/// Pairs of key and value that go with every call. Keys are lower case.
using Metadata = std::vector<std::pair<std::string, std::string>>;

/// How a `Client` calls. All but `addresses` has a default.
struct ClientOptions {
  /// Routers of one cluster, each HOST:PORT. Calls go to the one that answered last; the others stand by.
  std::vector<std::string> addresses = {};
  /// For example `grpc::SslCredentials({ca, key, certificate})`. Default: plaintext.
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;
  /// Sent as `authorization: Bearer …`. Over plaintext everybody on the way can read it. Default: none.
  std::string api_key = {};
  /// Further metadata. Default: none.
  Metadata metadata = {};
  /// On whose behalf calls are made (`lepton-caller`); callers share a full router fairly. Default: none.
  std::string caller = {};
  /// Asked once per call for the W3C `traceparent` of the program's current span; empty: none. Called on the thread that
  /// makes the call. Default: none.
  std::function<std::string()> traceparent = nullptr;
  /// Whether a call that nothing has come of is made again, at most 3 times in all, when the cluster was full or nobody
  /// answered; extra calls are a tenth of all calls, saved up to 10.
  bool retry = true;
  /// Whether a stream whose connection breaks is gone on with, at whichever router answers. Such a call outlives its
  /// connection by 30 s. Not together with `direct`.
  bool resume = false;
  /// Whether streams come straight from the worker that a router picks (docs/direct.md). The workers' addresses must be
  /// reachable from here.
  bool direct = false;
  /// For a whole call, retries and resumptions included.
  std::chrono::milliseconds timeout = std::chrono::seconds(600);
};

/// What one call does otherwise than its client.
struct CallOptions {
  /// Default: `ClientOptions::timeout`.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
};

}  // namespace lepton
