#pragma once

#include "lepton/v1/inference.pb.h"

namespace lepton::internal {

/// The events of one call, over all the peers that it takes.
class EventSource {
 public:
  virtual ~EventSource() = default;
  /// Waits for the next event. False: that was all. Throws `Error`.
  virtual bool Next(v1::Event& event) = 0;
};

}  // namespace lepton::internal
