#include "routers.h"

#include <gtest/gtest.h>

#include "fakes.h"

namespace lepton::internal {
namespace {

class RoutersTest : public testing::Test {
 protected:
  // Asks once for a new call; which routers were asked, in this order.
  std::string Ask() {
    Route route(routers_);
    return Ask(route);
  }

  std::string Ask(Route& route) {
    std::string asked;
    try {
      route.AskOne([&](Peer& peer) {
        const size_t index = &peer == peers_[0].get() ? 0 : &peer == peers_[1].get() ? 1 : 2;
        asked += "abc"[index];
        if (down_[index]) throw Unreachable();
        if (refuses_[index]) throw MakeError(StatusCode::kInvalidArgument, "PROMPT_EMPTY");
        return 0;
      });
    } catch (const Error& error) {
      asked += "!" + error.reason();
    }
    return asked;
  }

  std::vector<std::shared_ptr<Peer>> peers_ = {std::make_shared<FakePeer>(), std::make_shared<FakePeer>(),
                                               std::make_shared<FakePeer>()};
  Routers routers_{peers_};
  bool down_[3] = {};
  bool refuses_[3] = {};
};

TEST_F(RoutersTest, TriesTheNextWhenOneIsDownAndStaysThere) {
  down_[0] = true;
  EXPECT_EQ(Ask(), "ab");
  EXPECT_EQ(Ask(), "b");
  down_[0] = false;
  down_[1] = true;
  EXPECT_EQ(Ask(), "bc");
}

TEST_F(RoutersTest, TriesEachOnce) {
  down_[0] = down_[1] = down_[2] = true;
  EXPECT_EQ(Ask(), "abc!UNREACHABLE");
}

TEST_F(RoutersTest, TakesARefusalForAnAnswer) {
  down_[0] = true;
  refuses_[1] = true;
  EXPECT_EQ(Ask(), "ab!PROMPT_EMPTY");
  EXPECT_EQ(Ask(), "b!PROMPT_EMPTY");
}

TEST_F(RoutersTest, BeginsBehindTheOneThatFailed) {
  Route route(routers_);
  refuses_[0] = true;
  EXPECT_EQ(Ask(route), "a!PROMPT_EMPTY");
  routers_.Answered(2);  // so did another call, meanwhile
  down_[1] = true;
  EXPECT_EQ(Ask(route), "bc");
  EXPECT_EQ(Ask(route), "c");
  route.Lost();
  EXPECT_EQ(Ask(route), "a!PROMPT_EMPTY");
}

}  // namespace
}  // namespace lepton::internal
