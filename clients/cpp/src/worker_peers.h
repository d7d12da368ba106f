#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "peer.h"

namespace lepton::internal {

/// Connections to the workers that were called directly, by address; those that were not used for longest are let go. May
/// be used by many threads.
class WorkerPeers {
 public:
  static constexpr size_t kPeersMax = 64;

  explicit WorkerPeers(PeerFactory make) : make_(std::move(make)) {}

  /// The peer at `address`, made if need be. Streams keep theirs, also when it is let go here.
  std::shared_ptr<Peer> At(const std::string& address) {
    const std::lock_guard lock(mutex_);
    for (auto at = peers_.begin(); at != peers_.end(); ++at) {
      if (at->first != address) continue;
      peers_.splice(peers_.begin(), peers_, at);
      return at->second;
    }
    peers_.emplace_front(address, make_(address));
    if (peers_.size() > kPeersMax) peers_.pop_back();
    return peers_.front().second;
  }

 private:
  PeerFactory make_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<Peer>>> peers_;  // used last comes first
};

}  // namespace lepton::internal
