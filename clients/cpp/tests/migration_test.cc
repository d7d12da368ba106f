#include "migration.h"

#include <gtest/gtest.h>

#include "fakes.h"

namespace lepton::internal {
namespace {

TEST(Migration, TellsBreaksApart) {
  const auto how = [](StatusCode code, const std::string& reason) { return BreakOf(MakeError(code, reason), false); };
  EXPECT_EQ(how(StatusCode::kUnavailable, "WORKER_LOST"), Break::kLoss);
  EXPECT_EQ(how(StatusCode::kInternal, "ENGINE_FAILED"), Break::kLoss);
  EXPECT_EQ(how(StatusCode::kUnavailable, "DRAINING"), Break::kHandOver);
  EXPECT_EQ(how(StatusCode::kInternal, "MODEL_OUTPUT_INVALID"), Break::kFinal);
  EXPECT_EQ(how(StatusCode::kInvalidArgument, "GRAMMAR_TOO_LARGE"), Break::kFinal);
  EXPECT_EQ(how(StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED"), Break::kFinal);
}

TEST(Migration, KnowsARefusal) {
  const auto how = [](const Error& error) { return BreakOf(error, true); };
  EXPECT_EQ(how(MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL")), Break::kRefusal);
  EXPECT_EQ(how(MakeError(StatusCode::kPermissionDenied, "TICKET_EXPIRED")), Break::kRefusal);
  EXPECT_EQ(how(MakeError(StatusCode::kUnavailable, "DRAINING")), Break::kRefusal);
  EXPECT_EQ(how(MakeError(StatusCode::kInvalidArgument, "FIELD_TOO_LARGE", "continuation.choices")), Break::kRefusal);
  EXPECT_EQ(how(MakeError(StatusCode::kInvalidArgument, "FIELD_TOO_LARGE", "stop")), Break::kFinal);
  EXPECT_EQ(how(MakeError(StatusCode::kUnavailable, "WORKER_LOST")), Break::kLoss);
}

TEST(Migration, CountsEachKindByItself) {
  Moves moves;
  EXPECT_TRUE(moves.Count(Break::kLoss));
  EXPECT_TRUE(moves.Count(Break::kLoss));
  EXPECT_FALSE(moves.Count(Break::kLoss));
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(moves.Count(Break::kHandOver));
  EXPECT_FALSE(moves.Count(Break::kHandOver));
  EXPECT_TRUE(moves.Count(Break::kRefusal));
  EXPECT_FALSE(moves.Count(Break::kFinal));
  EXPECT_EQ(moves.attempt(), 18U);
}

}  // namespace
}  // namespace lepton::internal
