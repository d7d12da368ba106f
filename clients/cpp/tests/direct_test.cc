#include "direct.h"

#include <gtest/gtest.h>

#include "fakes.h"

namespace lepton::internal {
namespace {

using Numbers = std::vector<uint64_t>;

const Error kCut = MakeError(StatusCode::kUnavailable, "WORKER_LOST");

v1::PickResponse Picked(const std::string& worker) {
  v1::PickResponse response;
  response.set_worker_id(worker);
  response.set_address(worker + ":9");
  response.set_model("m");
  response.set_revision("12345678");
  response.set_fingerprint("f");
  response.set_ticket("ticket-" + worker);
  return response;
}

class DirectTest : public testing::Test {
 protected:
  Numbers ReadAll() { return internal::ReadAll(events()); }
  Error Fail() {
    return ErrorOf([&] { ReadAll(); });
  }
  DirectEvents& events() {
    if (events_ == nullptr) events_ = std::make_unique<DirectEvents>(*call_, request_);
    return *events_;
  }
  FakePeer& router() { return cluster_.at("a:1"); }
  FakePeer& worker(const std::string& id) { return cluster_.at(id + ":9"); }

  FakeCluster cluster_{{.addresses = {"a:1"}, .direct = true}};
  std::shared_ptr<Call> call_ = cluster_.Begin();
  v1::GenerateRequest request_;
  std::unique_ptr<DirectEvents> events_;
};

TEST_F(DirectTest, CallsThePickedWorkerWithItsTicket) {
  request_.set_model("alias");
  router().picks = {Picked("w1")};
  worker("w1").scripts = {{.events = {StartedEvent(), DeltaEvent(1, "a", 5), FinishedEvent(2)}}};
  EXPECT_EQ(ReadAll(), Numbers({0, 1, 2}));

  EXPECT_EQ(router().picked[0].request().model(), "alias");
  EXPECT_FALSE(router().picked[0].request().request_id().empty());
  const v1::GenerateRequest& asked = worker("w1").asked.at(0);
  EXPECT_EQ(asked.model(), "m");
  EXPECT_EQ(asked.revision(), "12345678");
  EXPECT_TRUE(asked.output().token_ids());
  EXPECT_FALSE(asked.has_continuation());
  EXPECT_EQ(worker("w1").metadata.at(0), Metadata({{"lepton-ticket", "ticket-w1"}}));
}

TEST_F(DirectTest, BoundsTheSilenceOfAStreamThatHasBegun) {
  router().picks = {Picked("w1")};
  worker("w1").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}}};
  ReadAll();
  EXPECT_EQ(worker("w1").silences.at(0), std::nullopt);
  EXPECT_EQ(worker("w1").silences.at(1), std::chrono::seconds(10));
}

TEST_F(DirectTest, GoesOnWhereALostWorkerWas) {
  router().picks = {Picked("w1"), Picked("w2")};
  worker("w1").scripts = {{.events = {StartedEvent(), DeltaEvent(1, "a", 5)}, .error = kCut}};
  worker("w2").scripts = {{.events = {MigratedEvent(2), DeltaEvent(3, "b", 6), FinishedEvent(4)}}};
  EXPECT_EQ(ReadAll(), Numbers({0, 1, 2, 3, 4}));

  const v1::PickRequest& again = router().picked.at(1);
  EXPECT_EQ(again.request().request_id(), router().picked.at(0).request().request_id());
  ASSERT_EQ(again.failed_tickets_size(), 1);
  EXPECT_EQ(again.failed_tickets(0), "ticket-w1");
  EXPECT_EQ(again.origin().worker_id(), "w1");
  EXPECT_EQ(again.origin().fingerprint(), "f");
  const v1::Continuation& told = worker("w2").asked.at(0).continuation();
  EXPECT_EQ(told.next_seq(), 2U);
  EXPECT_EQ(told.attempt(), 1U);
  EXPECT_EQ(told.from_worker_id(), "w1");
  EXPECT_EQ(told.choices(0).token_ids(0), 5U);
}

TEST_F(DirectTest, BeginsAgainWhenNothingHasCome) {
  router().picks = {Picked("w1"), Picked("w2")};
  worker("w1").scripts = {{.error = Unreachable()}};
  worker("w2").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}}};
  EXPECT_EQ(ReadAll(), Numbers({0, 1}));
  EXPECT_FALSE(router().picked.at(1).has_origin());
  EXPECT_FALSE(worker("w2").asked.at(0).has_continuation());
}

TEST_F(DirectTest, LosesTwoWorkersAtMost) {
  router().picks = {Picked("w1"), Picked("w2"), Picked("w3")};
  worker("w1").scripts = {{.events = {StartedEvent()}, .error = kCut}};
  worker("w2").scripts = {{.events = {MigratedEvent(1)}}};  // ends too early
  worker("w3").scripts = {{.events = {MigratedEvent(2)}, .error = MakeError(StatusCode::kCancelled, "CLIENT_GONE")}};
  EXPECT_EQ(Fail().reason(), "WORKER_LOST");
  EXPECT_EQ(worker("w3").asked.at(0).continuation().attempt(), 2U);
}

TEST_F(DirectTest, TellsTheLossAndNotWhoDeclinedToHelp) {
  const Error full = MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL");
  router().picks = {Picked("w1"), Picked("w2"), Picked("w3"), Picked("w4")};
  worker("w1").scripts = {{.events = {StartedEvent()}, .error = kCut}};
  for (const char* id : {"w2", "w3", "w4"}) worker(id).scripts = {{.error = full}};
  EXPECT_EQ(Fail().reason(), "WORKER_LOST");
  EXPECT_EQ(worker("w4").asked.at(0).continuation().attempt(), 1U);
  EXPECT_EQ(router().picked.at(3).failed_tickets_size(), 3);
}

TEST_F(DirectTest, DoesNotMoveAfterAnErrorOfTheRequest) {
  router().picks = {Picked("w1")};
  worker("w1").scripts = {
      {.events = {StartedEvent()}, .error = MakeError(StatusCode::kInvalidArgument, "GRAMMAR_UNSATISFIABLE")}};
  EXPECT_EQ(Fail().reason(), "GRAMMAR_UNSATISFIABLE");
}

TEST_F(DirectTest, RetriesThePickBeforeTheFirstEvent) {
  router().picks = {MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL"), Picked("w1")};
  worker("w1").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}}};
  EXPECT_EQ(ReadAll(), Numbers({0, 1}));
  EXPECT_EQ(cluster_.clock->slept.size(), 1U);
}

TEST_F(DirectTest, HidesIdsThatNobodyAskedFor) {
  request_.mutable_output()->set_token_ids(false);
  router().picks = {Picked("w1")};
  worker("w1").scripts = {{.events = {StartedEvent(), DeltaEvent(1, "a", 5)}}};
  v1::Event event;
  ASSERT_TRUE(events().Next(event));
  ASSERT_TRUE(events().Next(event));
  EXPECT_EQ(event.delta().text(), "a");
  EXPECT_EQ(event.delta().token_ids_size(), 0);
}

TEST(WorkerPeers, LetGoOfThoseNotUsedForLongest) {
  int made = 0;
  WorkerPeers peers([&](const std::string&) {
    ++made;
    return std::make_shared<FakePeer>();
  });
  const auto first = peers.At("first:1");
  for (size_t i = 1; i <= WorkerPeers::kPeersMax; ++i) {
    EXPECT_EQ(peers.At("first:1"), first);
    peers.At(std::to_string(i) + ":1");
  }
  EXPECT_EQ(made, 1 + static_cast<int>(WorkerPeers::kPeersMax));
  peers.At("1:1");
  EXPECT_EQ(made, 2 + static_cast<int>(WorkerPeers::kPeersMax));
}

}  // namespace
}  // namespace lepton::internal
