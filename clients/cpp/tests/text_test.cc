#include "lepton/text.h"

#include <gtest/gtest.h>

#include <sstream>

#include "fakes.h"
#include "relayed.h"
#include "text_request.h"

namespace lepton::internal {
namespace {

TextStream Open(FakeCluster& cluster) {
  std::shared_ptr<Call> call = cluster.Begin();
  auto events = std::make_unique<RelayedEvents>(*call, v1::GenerateRequest());
  return TextStream(Stream(std::move(call), std::move(events)));
}

std::deque<Script> TwoChoices() {
  v1::Event last = DeltaEvent(3, "!", 3, 0);
  last.mutable_delta()->mutable_end()->set_reason(v1::FINISH_REASON_STOP);
  return {{.events = {StartedEvent(), DeltaEvent(1, "Hel", 1), DeltaEvent(2, "other", 2, 1), last, FinishedEvent(4)}}};
}

TEST(TextStream, GivesText) {
  FakeCluster cluster;
  cluster.at("a:1").scripts = TwoChoices();
  std::ostringstream out;
  for (const TextPiece& piece : Open(cluster)) out << piece.choice << piece << ' ';
  EXPECT_EQ(out.str(), "0Hel 1other 0! ");
}

TEST(TextStream, CollectsWithWhatWasRead) {
  FakeCluster cluster;
  cluster.at("a:1").scripts = TwoChoices();
  TextStream stream = Open(cluster);
  TextPiece piece;
  ASSERT_TRUE(stream.Next(piece));
  EXPECT_EQ(stream.so_far().text(), "Hel");
  const Completion whole = stream.Collect();
  EXPECT_EQ(whole.text(), "Hel!");
  ASSERT_EQ(whole.choices.size(), 2U);
  EXPECT_EQ(whole.choices[0].finish_reason, "STOP");
  EXPECT_EQ(whole.choices[1].finish_reason, "");
  EXPECT_EQ(whole.usage.completion_tokens(), 2U);
  EXPECT_EQ(whole.request_id, "request");
  EXPECT_EQ(whole.trace_id, "trace");
}

TEST(Completion, HasNoTextBeforeAnyCame) { EXPECT_EQ(Completion().text(), ""); }

TEST(FinishReason, KeepsWhatANewerServerSays) {
  EXPECT_EQ(FinishReasonName(v1::FINISH_REASON_LENGTH), "LENGTH");
  EXPECT_EQ(FinishReasonName(static_cast<v1::FinishReason>(77)), "77");
}

TEST(TextRequest, LeavesTheDefaultsToTheCluster) {
  const v1::GenerateRequest request = CompleteRequest("hi", {});
  EXPECT_EQ(request.text(), "hi");
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.stop().has_max_tokens());
  EXPECT_FALSE(request.has_constraint());
}

TEST(TextRequest, PutsEachArgumentInItsPlace) {
  const v1::GenerateRequest request = CompleteRequest("hi", {.model = "m",
                                                             .max_tokens = 5,
                                                             .temperature = 0.5F,
                                                             .seed = 9,
                                                             .n = 2,
                                                             .stop = {"a", "b"},
                                                             .json_schema = "{}"});
  EXPECT_EQ(request.model(), "m");
  EXPECT_EQ(request.stop().max_tokens(), 5U);
  EXPECT_EQ(request.stop().strings(1), "b");
  EXPECT_EQ(request.sampling().temperature(), 0.5F);
  EXPECT_EQ(request.sampling().seed(), 9U);
  EXPECT_EQ(request.sampling().n(), 2U);
  EXPECT_EQ(request.constraint().json_schema(), "{}");
}

TEST(TextRequest, KnowsRoles) {
  const v1::GenerateRequest request = ChatRequest({{"system", "s"}, {"user", "u"}}, {});
  EXPECT_EQ(request.chat().messages(1).role(), v1::ROLE_USER);
  EXPECT_EQ(ErrorOf([] { ChatRequest({{"user", "u"}, {"wizard", "w"}}, {}); }).field(), "chat.messages[1].role");
}

}  // namespace
}  // namespace lepton::internal
