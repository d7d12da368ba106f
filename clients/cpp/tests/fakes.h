#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "call.h"
#include "clock.h"
#include "event_source.h"
#include "lepton/error.h"
#include "peer.h"

// A cluster of scripts, on a clock that nobody waits for.
namespace lepton::internal {

/// Time passes only while somebody sleeps.
class FakeClock final : public Clock {
 public:
  TimePoint Now() const override { return now_; }
  void Sleep(std::chrono::nanoseconds time, Cancellation&) override {
    now_ += std::chrono::duration_cast<TimePoint::duration>(time);
    slept.push_back(time);
  }

  std::vector<std::chrono::nanoseconds> slept;

 private:
  TimePoint now_{};
};

/// What a peer sends for one Generate: events, then OK or an error.
struct Script {
  std::vector<v1::Event> events = {};
  std::optional<Error> error = std::nullopt;
};

/// A router or worker that answers as it was told, call after call, and remembers what it was asked. A call too many is
/// answered as by nobody.
class FakePeer final : public Peer {
 public:
  std::unique_ptr<PeerStream> Generate(const v1::GenerateRequest& request, const Attempt& attempt) override;
  v1::PickResponse Pick(const v1::PickRequest& request, const Attempt& attempt) override;
  v1::AbortResponse Abort(const v1::AbortRequest& request, const Attempt& attempt) override;
  v1::TokenizeResponse Tokenize(const v1::TokenizeRequest&, const Attempt&) override { return {}; }
  v1::DetokenizeResponse Detokenize(const v1::DetokenizeRequest&, const Attempt&) override { return {}; }
  v1::CountTokensResponse CountTokens(const v1::CountTokensRequest&, const Attempt&) override { return {}; }
  v1::ListModelsResponse ListModels(const v1::ListModelsRequest&, const Attempt&) override { return {}; }

  std::deque<Script> scripts;
  std::deque<std::variant<v1::PickResponse, Error>> picks;

  std::vector<v1::GenerateRequest> asked;
  std::vector<v1::PickRequest> picked;
  std::vector<Metadata> metadata;  // of each Generate
  std::vector<std::string> aborted;
  std::vector<std::optional<std::chrono::nanoseconds>> silences;  // of each event waited for
};

/// Peers by address, and one client of them.
struct FakeCluster {
  explicit FakeCluster(ClientOptions options = {.addresses = {"a:1"}});

  /// The peer at an address; one that nobody has named is made.
  FakePeer& at(const std::string& address);
  std::shared_ptr<Call> Begin(std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>();
  std::map<std::string, std::shared_ptr<FakePeer>> peers;
  std::shared_ptr<Core> core;
};

Error MakeError(StatusCode code, const std::string& reason, const std::string& field = "");
Error Unreachable();

v1::Event StartedEvent(const std::string& resume_token = "");
v1::Event DeltaEvent(uint64_t seq, const std::string& text, uint32_t token_id = 0, uint32_t index = 0);
v1::Event MigratedEvent(uint64_t seq, const std::string& resume_token = "");
v1::Event FinishedEvent(uint64_t seq);

/// The numbers of all events, to the end. Throws what the source throws.
std::vector<uint64_t> ReadAll(EventSource& source);

/// What `action` throws; fails the test when it does not.
Error ErrorOf(const std::function<void()>& action);

}  // namespace lepton::internal
