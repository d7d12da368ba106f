#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "errors.h"
#include "peer.h"

namespace lepton::internal {

/// The routers of a cluster, and which of them answered last.
class Routers {
 public:
  /// At least one.
  explicit Routers(std::vector<std::shared_ptr<Peer>> routers) : routers_(std::move(routers)) {}

  size_t size() const { return routers_.size(); }
  Peer& at(size_t index) { return *routers_[index]; }

  /// The index of whom to ask first.
  size_t first() const { return first_; }
  void Answered(size_t index) { first_ = index; }

 private:
  std::vector<std::shared_ptr<Peer>> routers_;
  std::atomic<size_t> first_ = 0;
};

/// The way of one call through the routers. A try begins at the router that answered last; after a failure at the one
/// behind it: what is so there (it drains, its line is full, it hangs) may be otherwise elsewhere.
class Route {
 public:
  explicit Route(Routers& routers) : routers_(routers) {}

  /// What `ask(peer)` returns for the first router that can be reached, each being asked once. Throws what it throws; when
  /// nobody can be reached, what the last one threw.
  template <class Ask>
  auto AskOne(Ask ask) {
    const size_t first = has_failed_ ? asked_ + 1 : routers_.first();
    for (size_t tried = 0;; ++tried) {
      asked_ = (first + tried) % routers_.size();
      has_failed_ = true;
      try {
        auto answer = ask(routers_.at(asked_));
        routers_.Answered(asked_);
        has_failed_ = false;
        return answer;
      } catch (const Error& error) {
        const bool answered = !IsLostConnection(error);
        if (answered) routers_.Answered(asked_);
        if (answered || tried + 1 == routers_.size()) throw;
      }
    }
  }

  /// The router that had answered has lost the call since.
  void Lost() { has_failed_ = true; }

 private:
  Routers& routers_;
  size_t asked_ = 0;
  bool has_failed_ = false;
};

}  // namespace lepton::internal
