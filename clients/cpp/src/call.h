#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "cancellation.h"
#include "clock.h"
#include "lepton/options.h"
#include "peer.h"
#include "retry_budget.h"
#include "routers.h"
#include "worker_peers.h"

namespace lepton::internal {

/// What all calls of one client share. Outlives the client while one of its streams is open.
struct Core {
  /// `options` are checked. `draw` gives numbers in [0, 1) and may be called by many threads.
  Core(ClientOptions options, const PeerFactory& make_peer, std::shared_ptr<Clock> clock, std::function<double()> draw);

  const ClientOptions options;
  const Metadata metadata;  // of every call
  Routers routers;
  WorkerPeers workers;
  const std::shared_ptr<Clock> clock;
  const std::function<double()> draw;
  RetryBudget budget;
};

/// One call of the caller's, over all its tries.
class Call {
 public:
  Call(std::shared_ptr<Core> core, const CallOptions& options);

  Core& core() { return *core_; }
  Cancellation& cancellation() { return cancellation_; }
  Route& route() { return route_; }

  /// As the peer named it that answered last.
  CallIds ids = {};

  /// Time until the deadline, at least 0.
  std::chrono::nanoseconds Left() const;

  /// The next try. `more` goes with it. Throws `Error` once the call was cancelled.
  Attempt NextAttempt(const Metadata& more = {});

  /// Gives the call up: the current try is torn down, a resumable call is ended wherever it runs. Does nothing after
  /// `End`, or again. May be called by any thread.
  void Cancel() noexcept;

  /// Nothing is left to cancel.
  void End() { has_ended_ = true; }

  /// The way back to a resumable call, as told last; "" is not one.
  void set_resume_token(const std::string& token);
  std::string resume_token() const;

 private:
  void Abort(const std::string& token);

  const std::shared_ptr<Core> core_;
  const TimePoint ends_at_;
  Metadata metadata_;
  Cancellation cancellation_;
  Route route_;
  std::atomic<bool> has_ended_ = false;
  mutable std::mutex token_mutex_;
  std::string resume_token_;
};

}  // namespace lepton::internal
