#include "cancellation.h"

#include <gtest/gtest.h>

#include <thread>

#include "fakes.h"

namespace lepton::internal {
namespace {

TEST(Cancellation, WakesWhoeverSleeps) {
  Cancellation cancellation;
  std::thread other([&] { cancellation.Cancel(); });
  cancellation.SleepFor(std::chrono::hours(1));
  other.join();
  EXPECT_EQ(ErrorOf([&] { cancellation.Check(); }).kind(), ErrorKind::kCancelled);
}

TEST(Cancellation, StopsWhatIsUnderWayOnce) {
  Cancellation cancellation;
  int stops = 0;
  const Cancellation::Hook hook(cancellation, [&] { ++stops; });
  cancellation.Cancel();
  cancellation.Cancel();
  EXPECT_EQ(stops, 1);
}

TEST(Cancellation, StopsAtOnceWhatBeginsTooLate) {
  Cancellation cancellation;
  cancellation.Cancel();
  int stops = 0;
  const Cancellation::Hook hook(cancellation, [&] { ++stops; });
  EXPECT_EQ(stops, 1);
}

TEST(Cancellation, LeavesWhatHasEndedAlone) {
  Cancellation cancellation;
  int stops = 0;
  { const Cancellation::Hook hook(cancellation, [&] { ++stops; }); }
  cancellation.Cancel();
  EXPECT_EQ(stops, 0);
}

}  // namespace
}  // namespace lepton::internal
