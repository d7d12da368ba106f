#pragma once

#include <chrono>
#include <cstdint>
#include <iterator>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "lepton/stream.h"

namespace lepton {

/// One message of a conversation.
struct Message {
  /// "system", "user", "assistant" or "tool".
  std::string role;
  std::string content;
};

/// The fields of a request that most calls need; what is absent has the cluster's default. `Client::Generate` takes all
/// the others.
struct TextOptions {
  /// Default: the only model of the cluster.
  std::string model = {};
  std::optional<uint32_t> max_tokens = std::nullopt;
  /// 0, the default, takes the most likely token.
  std::optional<float> temperature = std::nullopt;
  std::optional<float> top_p = std::nullopt;
  std::optional<uint32_t> top_k = std::nullopt;
  std::optional<float> min_p = std::nullopt;
  /// Makes the draw repeatable.
  std::optional<uint64_t> seed = std::nullopt;
  /// How many independent answers.
  std::optional<uint32_t> n = std::nullopt;
  /// Texts that end the answer.
  std::vector<std::string> stop = {};
  /// A JSON schema, as JSON text, that the answer follows.
  std::string json_schema = {};
  /// Requests with the same key prefer the same worker.
  std::string session_key = {};
  /// For logs and traces.
  std::string request_id = {};
  /// For the whole call. Default: `ClientOptions::timeout`.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
};

/// Some more text of one choice.
struct TextPiece {
  std::string text = {};
  /// Which choice, from 0.
  uint32_t choice = 0;
};

inline std::ostream& operator<<(std::ostream& out, const TextPiece& piece) { return out << piece.text; }

/// One answer, or as much of it as has come.
struct Choice {
  std::string text = {};
  /// "STOP" or "LENGTH", or what a newer server says; empty while it has not ended.
  std::string finish_reason = {};
};

/// All that an answer is, or as much of it as has come.
struct Completion {
  std::vector<Choice> choices = {};
  v1::Usage usage = {};
  v1::Timings timings = {};
  std::string request_id = {};
  std::string trace_id = {};

  /// The text of the first choice.
  const std::string& text() const;

  /// Adds what an event says: for those who read a `Stream` and want the text as well.
  void Take(const v1::Event& event);
};

/// The finish reason as programs compare it: "STOP" for FINISH_REASON_STOP, the number for one that this version does not
/// know, "" for none.
std::string FinishReasonName(v1::FinishReason reason);

/// One answer as text.
///
///     for (const auto& piece : client.Chat({{"user", "What is 27 + 35?"}})) std::cout << piece;
///     std::string text = client.Complete("27 + 35 =").Collect().text();
///
/// As with `Stream`: leaving the loop stops the compute; one thread at a time reads, any may `Cancel`.
class TextStream {
 public:
  using iterator = InputIterator<TextStream, TextPiece>;

  explicit TextStream(Stream stream);

  /// Waits for more text. False: the answer is complete. Throws `Error`.
  bool Next(TextPiece& piece);

  /// Reads to the end and returns the whole answer, what was read before included. Throws `Error`.
  Completion Collect();

  /// What has come so far.
  const Completion& so_far() const { return completion_; }

  void Cancel() noexcept { stream_.Cancel(); }

  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() const { return {}; }

 private:
  Stream stream_;
  Completion completion_;
};

}  // namespace lepton
