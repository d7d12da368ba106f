#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "errors.h"
#include "peer.h"

namespace lepton::internal {

/// The routers of a cluster, and which of them to ask first: the one that answered last.
class Routers {
 public:
  /// At least one.
  explicit Routers(std::vector<std::shared_ptr<Peer>> routers) : routers_(std::move(routers)) {}

  /// What `ask(peer)` returns for the first router that can be reached, each being asked once. Throws what it throws; when
  /// nobody can be reached, what the last one threw.
  template <class Ask>
  auto AskOne(Ask ask) {
    const size_t first = first_;
    for (size_t tried = 0;; ++tried) {
      const size_t index = (first + tried) % routers_.size();
      try {
        auto answer = ask(*routers_[index]);
        first_ = index;
        return answer;
      } catch (const Error& error) {
        const bool answered = !IsLostConnection(error);
        if (answered) first_ = index;
        if (answered || tried + 1 == routers_.size()) throw;
      }
    }
  }

  /// The router that was asked last has lost a stream or cannot help now: ask the next one first.
  void PassOver() { first_ = (first_ + 1) % routers_.size(); }

 private:
  std::vector<std::shared_ptr<Peer>> routers_;
  std::atomic<size_t> first_ = 0;
};

}  // namespace lepton::internal
