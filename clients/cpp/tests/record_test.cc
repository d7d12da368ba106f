#include "record.h"

#include <gtest/gtest.h>

#include "fakes.h"

namespace lepton::internal {
namespace {

TEST(Record, TellsTheNextWorkerAllThatItNeeds) {
  Record record(2);
  v1::Event last = DeltaEvent(3, "c", 13, 1);
  last.mutable_delta()->mutable_end()->set_reason(v1::FINISH_REASON_STOP);
  for (const v1::Event& event : {StartedEvent(), DeltaEvent(1, "a", 11, 1), MigratedEvent(2), last}) record.Take(event);

  const v1::Continuation told = record.Continue(2, "w1");
  EXPECT_EQ(told.next_seq(), 4U);
  EXPECT_EQ(told.seed(), 7U);
  EXPECT_EQ(told.prompt_tokens(), 3U);
  EXPECT_EQ(told.attempt(), 2U);
  EXPECT_EQ(told.from_worker_id(), "w1");
  ASSERT_EQ(told.choices_size(), 2);
  EXPECT_EQ(told.choices(0).token_ids_size(), 0);
  EXPECT_FALSE(told.choices(0).has_end());
  ASSERT_EQ(told.choices(1).token_ids_size(), 2);
  EXPECT_EQ(told.choices(1).token_ids(1), 13U);
  EXPECT_EQ(told.choices(1).end().reason(), v1::FINISH_REASON_STOP);
}

TEST(Record, TakesAsManyChoicesAsNamedWithoutRoomForAll) {
  Record record(4'000'000'000U);
  EXPECT_EQ(ErrorOf([&] { record.Take(DeltaEvent(1, "a")); }).reason(), "STREAM_FAULT");
  record.Take(StartedEvent());
  record.Take(DeltaEvent(1, "a", 1, 3));
}

TEST(Record, RefusesWhatBreaksTheRules) {
  Record record(1);
  record.Take(StartedEvent());
  const auto reason = [&](const v1::Event& event) { return ErrorOf([&] { record.Take(event); }).reason(); };
  EXPECT_EQ(reason(StartedEvent()), "STREAM_FAULT");            // again
  EXPECT_EQ(reason(DeltaEvent(2, "a")), "STREAM_FAULT");        // a gap
  EXPECT_EQ(reason(DeltaEvent(1, "a", 1, 1)), "STREAM_FAULT");  // a choice that nobody asked for
  v1::Event last = DeltaEvent(1, "a", 1);
  last.mutable_delta()->mutable_end();
  record.Take(last);
  EXPECT_EQ(reason(DeltaEvent(2, "b", 2)), "STREAM_FAULT");  // after the end of its choice
  EXPECT_FALSE(record.finished());
  record.Take(FinishedEvent(2));
  EXPECT_TRUE(record.finished());
  EXPECT_EQ(reason(FinishedEvent(3)), "STREAM_FAULT");
}

}  // namespace
}  // namespace lepton::internal
