#include "journal/journal.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

GenerateRequest request(uint64_t id, int32_t n = 1) {
  GenerateRequest r;
  r.id = RequestId{id};
  r.prompt = {1, 2, 3};
  r.params.n = n;
  r.params.max_tokens = 8;
  r.params.prompt_logprobs = 2;
  return r;
}

TokenEvent token(uint64_t id, int32_t choice, int32_t index, TokenId value, uint32_t epoch = 0) {
  TokenEvent e;
  e.request = RequestId{id};
  e.epoch = epoch;
  e.choice = choice;
  e.index = index;
  e.token = value;
  return e;
}

TEST(Journal, CommitsEachIndexOnce) {
  Journal journal;
  journal.open(request(7));
  EXPECT_TRUE(journal.commit(token(7, 0, 0, 10)));
  EXPECT_FALSE(journal.commit(token(7, 0, 0, 10)));  // repeated
  EXPECT_FALSE(journal.commit(token(7, 0, 2, 12)));  // a gap
  EXPECT_FALSE(journal.commit(token(7, 1, 0, 10)));  // no such choice
  EXPECT_FALSE(journal.commit(token(7, -1, 0, 10)));
  EXPECT_FALSE(journal.commit(token(8, 0, 0, 10)));  // no such stream
  EXPECT_TRUE(journal.commit(token(7, 0, 1, 11)));
  EXPECT_EQ(journal.resume(RequestId{7}, 0)->emitted[0], (std::vector<TokenId>{10, 11}));
}

TEST(Journal, AnEventThatOnlyFinishesAddsNoToken) {
  Journal journal;
  journal.open(request(7));
  EXPECT_TRUE(journal.commit(token(7, 0, 0, 10)));
  EXPECT_TRUE(journal.commit(token(7, 0, 1, -1)));
  EXPECT_EQ(journal.resume(RequestId{7}, 0)->emitted[0], (std::vector<TokenId>{10}));
  EXPECT_TRUE(journal.finish(RequestId{7}, 0));
  EXPECT_EQ(journal.size(), 0u);
}

TEST(Journal, AfterResumeOnlyTheNewEpochCounts) {
  Journal journal;
  journal.open(request(7, 2));
  EXPECT_TRUE(journal.commit(token(7, 0, 0, 10)));
  EXPECT_TRUE(journal.commit(token(7, 1, 0, 20)));
  EXPECT_FALSE(journal.finish(RequestId{7}, 1));
  const auto again = journal.resume(RequestId{7}, 1);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->epoch, 1u);
  EXPECT_TRUE(again->admitted);
  EXPECT_EQ(again->prompt, (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(again->emitted, (std::vector<std::vector<TokenId>>{{10}, {20}}));
  EXPECT_EQ(again->finished, (std::vector<bool>{false, true}));
  EXPECT_FALSE(journal.commit(token(7, 0, 1, 11, 0)));  // of the dead replica
  EXPECT_TRUE(journal.commit(token(7, 0, 1, 11, 1)));
  EXPECT_FALSE(journal.commit(token(7, 1, 1, 21, 1)));  // finished
  EXPECT_FALSE(journal.resume(RequestId{8}, 1).has_value());
}

TEST(Journal, PromptLogprobsOnce) {
  Journal journal;
  journal.open(request(7));
  PromptLogprobs logprobs;
  logprobs.request = RequestId{7};
  EXPECT_TRUE(journal.commit_prompt(logprobs));
  EXPECT_FALSE(journal.commit_prompt(logprobs));
  EXPECT_EQ(journal.resume(RequestId{7}, 1)->params.prompt_logprobs, -1);
}

TEST(Journal, TheLastChoiceDropsTheRecord) {
  Journal journal;
  journal.open(request(7, 2));
  EXPECT_FALSE(journal.finish(RequestId{7}, 0));
  EXPECT_FALSE(journal.finish(RequestId{7}, 0));
  EXPECT_FALSE(journal.finish(RequestId{7}, 5));
  EXPECT_TRUE(journal.finish(RequestId{7}, 1));
  journal.open(request(7));
  journal.erase(RequestId{7});
  EXPECT_EQ(journal.size(), 0u);
}

}  // namespace
}  // namespace gantry
