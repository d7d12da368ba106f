#include "retry.h"

#include <gtest/gtest.h>

#include "fakes.h"

namespace lepton::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

const Error kFull = MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL");

Error AskedToWait(nanoseconds time) {
  ErrorInfo info = kFull.info();
  info.retry_after = time;
  return Error(info);
}

// Runs a call that fails with `error` `failures` times; how often it was tried.
int Tries(FakeCluster& cluster, const Error& error, int failures) {
  const auto call = cluster.Begin(seconds(10));
  int tries = 0;
  try {
    WithRetries(*call, [&] {
      if (++tries <= failures) throw error;
      return 0;
    });
  } catch (const Error& thrown) {
    EXPECT_EQ(thrown.reason(), error.reason());
  }
  return tries;
}

TEST(Backoff, DoublesUpToTwoSeconds) {
  EXPECT_EQ(Backoff(1, kFull, 1.0), milliseconds(100));
  EXPECT_EQ(Backoff(2, kFull, 1.0), milliseconds(200));
  EXPECT_EQ(Backoff(5, kFull, 1.0), milliseconds(1600));
  EXPECT_EQ(Backoff(6, kFull, 1.0), seconds(2));
  EXPECT_EQ(Backoff(1'000'000, kFull, 1.0), seconds(2));
}

TEST(Backoff, IsJitteredDownToNothing) {
  EXPECT_EQ(Backoff(1, kFull, 0.0), nanoseconds(0));
  EXPECT_EQ(Backoff(1, kFull, 0.25), milliseconds(25));
}

TEST(Backoff, IsAtLeastWhatTheServerAsksFor) {
  EXPECT_EQ(Backoff(1, AskedToWait(seconds(3)), 0.0), seconds(3));
  EXPECT_EQ(Backoff(2, AskedToWait(milliseconds(1)), 1.0), milliseconds(200));
}

TEST(RetryBudget, IsATenthOfCallsAndTenAtMost) {
  RetryBudget budget;
  for (int call = 0; call < 1000; ++call) budget.Earn();
  for (int retry = 0; retry < 10; ++retry) EXPECT_TRUE(budget.Spend());
  EXPECT_FALSE(budget.Spend());
  for (int call = 0; call < 9; ++call) budget.Earn();
  EXPECT_FALSE(budget.Spend());
  budget.Earn();
  EXPECT_TRUE(budget.Spend());
}

TEST(Retry, AsksThreeTimesAtMost) {
  FakeCluster cluster;
  EXPECT_EQ(Tries(cluster, kFull, 2), 3);
  EXPECT_EQ(Tries(cluster, kFull, 9), 3);
  EXPECT_EQ(cluster.clock->slept.size(), 4U);
}

TEST(Retry, OnlyOfWhatMayHelp) {
  FakeCluster cluster;
  EXPECT_EQ(Tries(cluster, Unreachable(), 1), 2);
  EXPECT_EQ(Tries(cluster, MakeError(StatusCode::kUnavailable, "OF_TOMORROW"), 1), 2);
  EXPECT_EQ(Tries(cluster, MakeError(StatusCode::kInternal, "ENGINE_FAILED"), 1), 1);
  EXPECT_EQ(Tries(cluster, MakeError(StatusCode::kInvalidArgument, "PROMPT_EMPTY"), 1), 1);
  EXPECT_EQ(Tries(cluster, MakeError(StatusCode::kResourceExhausted, ""), 1), 1);  // a message too large
}

TEST(Retry, NeverWaitsBeyondTheDeadline) {
  FakeCluster cluster;
  EXPECT_EQ(Tries(cluster, AskedToWait(seconds(10)), 1), 1);
  EXPECT_EQ(Tries(cluster, AskedToWait(seconds(6)), 9), 2);
}

TEST(Retry, StopsWithTheBudget) {
  FakeCluster cluster;
  int tries = 0;
  for (int call = 0; call < 20; ++call) tries += Tries(cluster, kFull, 9);
  EXPECT_EQ(tries, 20 + 11);  // ten saved up, one more earned meanwhile
}

TEST(Retry, CanBeSwitchedOff) {
  FakeCluster cluster({.addresses = {"a:1"}, .retry = false});
  EXPECT_EQ(Tries(cluster, kFull, 1), 1);
}

TEST(Retry, EndsWhenTheCallIsCancelled) {
  FakeCluster cluster;
  const auto call = cluster.Begin();
  const Error error = ErrorOf([&] {
    WithRetries(*call, [&]() -> int {
      call->Cancel();
      throw kFull;
    });
  });
  EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
}

}  // namespace
}  // namespace lepton::internal
