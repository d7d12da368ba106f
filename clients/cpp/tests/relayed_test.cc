#include "relayed.h"

#include <gtest/gtest.h>

#include "fakes.h"
#include "lepton/stream.h"

namespace lepton::internal {
namespace {

using Numbers = std::vector<uint64_t>;

const Error kCut = MakeError(StatusCode::kUnavailable, "WORKER_LOST");
const ClientOptions kPlain = {.addresses = {"a:1"}};
const ClientOptions kResuming = {.addresses = {"a:1", "b:1"}, .resume = true};

class Relayed {
 public:
  explicit Relayed(FakeCluster& cluster, v1::GenerateRequest request = {})
      : call_(cluster.Begin()), events_(*call_, std::move(request)) {}

  Numbers ReadAll() { return internal::ReadAll(events_); }
  Error Fail() {
    return ErrorOf([&] { ReadAll(); });
  }

 private:
  std::shared_ptr<Call> call_;
  RelayedEvents events_;
};

TEST(Relayed, GivesEachEventOnce) {
  FakeCluster cluster(kPlain);
  cluster.at("a:1").scripts = {{.events = {StartedEvent(), StartedEvent(), DeltaEvent(1, "a"), FinishedEvent(2)}}};
  EXPECT_EQ(Relayed(cluster).ReadAll(), Numbers({0, 1, 2}));
  EXPECT_FALSE(cluster.at("a:1").asked[0].has_resumable_ms());
}

TEST(Relayed, RefusesAGap) {
  FakeCluster cluster(kPlain);
  cluster.at("a:1").scripts = {{.events = {StartedEvent(), DeltaEvent(2, "a")}}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "STREAM_FAULT");
}

TEST(Relayed, TakesNoEndWithoutFinished) {
  FakeCluster cluster(kPlain);
  cluster.at("a:1").scripts = {{.events = {StartedEvent()}}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "WORKER_LOST");
}

TEST(Relayed, IsWholeWithFinishedWhateverComesAfter) {
  FakeCluster cluster(kPlain);
  cluster.at("a:1").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}, .error = kCut}};
  EXPECT_EQ(Relayed(cluster).ReadAll(), Numbers({0, 1}));
}

TEST(Relayed, IsAskedForAgainOnlyBeforeItsFirstEvent) {
  FakeCluster cluster(kPlain);
  FakePeer& router = cluster.at("a:1");
  router.scripts = {{.error = kCut}, {.events = {StartedEvent()}, .error = kCut}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "WORKER_LOST");
  EXPECT_EQ(router.asked.size(), 2U);
}

TEST(Resume, GoesOnAtTheNextRouterAfterTheLastEvent) {
  FakeCluster cluster(kResuming);
  cluster.at("a:1").scripts = {{.events = {StartedEvent("t1"), MigratedEvent(1, "t2")}, .error = kCut}};
  cluster.at("b:1").scripts = {{.events = {MigratedEvent(1, "t2"), DeltaEvent(2, "b"), FinishedEvent(3)}}};
  EXPECT_EQ(Relayed(cluster).ReadAll(), Numbers({0, 1, 2, 3}));

  EXPECT_EQ(cluster.at("a:1").asked[0].resumable_ms(), 30'000U);
  EXPECT_FALSE(cluster.at("a:1").asked[0].has_resume());
  const v1::GenerateRequest& again = cluster.at("b:1").asked.at(0);
  EXPECT_EQ(again.resume().resume_token(), "t2");
  EXPECT_EQ(again.resume().after_seq(), 1U);
  EXPECT_EQ(again.resumable_ms(), 30'000U);
}

TEST(Resume, GivesUpAfterFiveTriesWithoutProgress) {
  FakeCluster cluster({.addresses = {"a:1"}, .resume = true});
  FakePeer& router = cluster.at("a:1");
  router.scripts = {{.events = {StartedEvent("t1")}, .error = kCut},
                    {.events = {DeltaEvent(1, "a")}, .error = kCut}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "UNREACHABLE");
  EXPECT_EQ(router.asked.size(), 2U + 5U);
}

TEST(Resume, LeavesAnErrorOfTheRequestAlone) {
  FakeCluster cluster(kResuming);
  cluster.at("a:1").scripts = {
      {.events = {StartedEvent("t1")}, .error = MakeError(StatusCode::kNotFound, "RESUME_NOT_FOUND")}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "RESUME_NOT_FOUND");
  EXPECT_TRUE(cluster.at("b:1").asked.empty());
}

TEST(Resume, ByHandBeginsWhereTheRequestSays) {
  FakeCluster cluster(kResuming);
  v1::GenerateRequest request;
  request.mutable_resume()->set_resume_token("t1");
  request.mutable_resume()->set_after_seq(4);
  cluster.at("a:1").scripts = {{.error = MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL")},
                               {.events = {FinishedEvent(6)}}};
  cluster.at("b:1").scripts = {{.events = {DeltaEvent(5, "a")}, .error = kCut}};
  EXPECT_EQ(Relayed(cluster, request).ReadAll(), Numbers({5, 6}));
  EXPECT_EQ(cluster.at("b:1").asked.at(0).resume().after_seq(), 4U);
  EXPECT_EQ(cluster.at("a:1").asked.at(1).resume().after_seq(), 5U);
}

TEST(Resume, NeedsAToken) {
  FakeCluster cluster(kResuming);
  cluster.at("a:1").scripts = {{.events = {StartedEvent("")}, .error = kCut}};
  EXPECT_EQ(Relayed(cluster).Fail().reason(), "WORKER_LOST");
}

Stream OpenStream(FakeCluster& cluster) {
  std::shared_ptr<Call> call = cluster.Begin();
  auto events = std::make_unique<RelayedEvents>(*call, v1::GenerateRequest());
  return Stream(std::move(call), std::move(events));
}

TEST(Stream, AbortsAResumableCallThatIsLeft) {
  FakeCluster cluster(kResuming);
  FakePeer& router = cluster.at("a:1");
  router.scripts = {{.events = {StartedEvent("t1"), DeltaEvent(1, "a"), FinishedEvent(2)}}};
  for (const v1::Event& event : OpenStream(cluster)) {
    if (event.seq() == 1) break;
  }
  EXPECT_EQ(router.aborted, std::vector<std::string>({"t1"}));
}

TEST(Stream, HasNothingToAbortAfterItsEnd) {
  FakeCluster cluster(kResuming);
  FakePeer& router = cluster.at("a:1");
  router.scripts = {{.events = {StartedEvent("t1"), FinishedEvent(1)}}};
  {
    Stream stream = OpenStream(cluster);
    v1::Event event;
    while (stream.Next(event)) continue;
    EXPECT_EQ(stream.request_id(), "request");
    EXPECT_EQ(stream.trace_id(), "trace");
    EXPECT_FALSE(stream.Next(event));
    stream.Cancel();
  }
  EXPECT_TRUE(router.aborted.empty());
}

TEST(Stream, ThrowsOnceWhenCancelled) {
  FakeCluster cluster(kPlain);
  cluster.at("a:1").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}}};
  Stream stream = OpenStream(cluster);
  stream.Cancel();
  v1::Event event;
  EXPECT_EQ(ErrorOf([&] { stream.Next(event); }).kind(), ErrorKind::kCancelled);
  EXPECT_FALSE(stream.Next(event));
}

TEST(Stream, OutlivesItsClient) {
  auto cluster = std::make_unique<FakeCluster>(kPlain);
  cluster->at("a:1").scripts = {{.events = {StartedEvent(), FinishedEvent(1)}}};
  Stream stream = OpenStream(*cluster);
  cluster.reset();
  Stream moved = std::move(stream);
  EXPECT_EQ(std::ranges::distance(moved.begin(), moved.end()), 2);
}

}  // namespace
}  // namespace lepton::internal
