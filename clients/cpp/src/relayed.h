#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "call.h"
#include "event_source.h"

namespace lepton::internal {

/// Streams through a router. With `ClientOptions::resume` a stream that breaks after its first event is asked for again
/// from there on, at whichever router answers.
class RelayedEvents final : public EventSource {
 public:
  static constexpr uint32_t kResumableMs = 30'000;
  /// Resumptions in a row that bring nothing new.
  static constexpr int kBarrenMax = 5;

  RelayedEvents(Call& call, v1::GenerateRequest request);
  bool Next(v1::Event& event) override;

 private:
  void Open();
  std::unique_ptr<PeerStream> OpenAt(Peer& router);
  bool Read(v1::Event& event);
  bool IsNew(const v1::Event& event) const;
  void Take(const v1::Event& event);
  void PauseBeforeResuming(const Error& error);

  Call& call_;
  v1::GenerateRequest request_;
  std::unique_ptr<PeerStream> stream_;  // none: not connected
  std::optional<v1::Event> first_;      // read while connecting
  uint64_t next_seq_ = 0;
  bool has_begun_ = false;
  bool finished_ = false;
  int barren_ = 0;
};

}  // namespace lepton::internal
