#include "peer.h"

#include "lepton/error.h"

namespace lepton::internal {

void Settle(PeerStream& stream) {
  try {
    v1::Event ignored;
    while (stream.Next(ignored, std::chrono::seconds(1))) continue;
  } catch (const Error&) {
    // The answer is complete, whatever became of the connection.
  }
}

}  // namespace lepton::internal
