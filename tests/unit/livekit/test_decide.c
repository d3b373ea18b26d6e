// What is done about a room, by what LiveKit lists of its egresses.
#include "decide.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

// Egresses of ours, for a room "r" that is in its life RM_1.
struct listed {
  const char *id;
  enum vc_livekit_status status;
  int is_mix;
};

struct row {
  struct listed egresses[3];
  const char *own;     // NULL: none
  const char *surplus; // likewise
  enum verdict verdict;
  const char *which; // id of the newest that has ended, or of the one too many, NULL: none
};

struct place {
  struct vc_livekit_egress items[3];
  struct vc_livekit_egresses list;
};

static void list(struct place *place, const struct listed egresses[3])
{
  memset(place, 0, sizeof *place);
  place->list.items = place->items;
  for (size_t i = 0; i < 3 && egresses[i].id != NULL; i++) {
    struct vc_livekit_egress *item = &place->items[place->list.n++];
    *item = (struct vc_livekit_egress){.room = {.sid = "RM_1", .name = "r"}};
    snprintf(item->id, sizeof item->id, "%s", egresses[i].id);
    item->status = egresses[i].status;
    item->is_mix = egresses[i].is_mix;
    item->is_ours = 1;
  }
}

// Gives: the id of which, "" none. `own`, `surplus` NULL: none.
static enum verdict decide_as(const struct place *place, const char *sid, const char *own,
                              const char *surplus, const char **which)
{
  const struct vc_livekit_egress *found;
  const struct known known = {.room = "r",
                              .sid = sid,
                              .own = own != NULL ? own : "",
                              .surplus = surplus != NULL ? surplus : "",
                              .egresses = &place->list};
  enum verdict verdict = decide(&known, &found);
  *which = found != NULL ? found->id : "";
  return verdict;
}

static enum verdict decide_about(const struct place *place, const char *sid, const char **which)
{
  return decide_as(place, sid, NULL, NULL, which);
}

static void test_rows(void **state)
{
  (void)state;
  static const struct row rows[] = {
      {.verdict = VERDICT_START},
      {.egresses = {{"EG_1", VC_LIVEKIT_STARTING}}, .verdict = VERDICT_REST},
      {.egresses = {{"EG_1", VC_LIVEKIT_ACTIVE}}, .verdict = VERDICT_REST},
      {.egresses = {{"EG_1", VC_LIVEKIT_ENDING}}, .verdict = VERDICT_WAIT},
      {.egresses = {{"EG_1", VC_LIVEKIT_COMPLETE}}, .verdict = VERDICT_LEAVE, .which = "EG_1"},
      {.egresses = {{"EG_1", VC_LIVEKIT_LIMIT_REACHED}}, .verdict = VERDICT_LEAVE, .which = "EG_1"},
      {.egresses = {{"EG_1", VC_LIVEKIT_FAILED}}, .verdict = VERDICT_START, .which = "EG_1"},
      {.egresses = {{"EG_1", VC_LIVEKIT_ABORTED}}, .verdict = VERDICT_START, .which = "EG_1"},
      {.egresses = {{"EG_1", VC_LIVEKIT_UNKNOWN}}, .verdict = VERDICT_START, .which = "EG_1"},
      // One that is on counts for more than what has been.
      {.egresses = {{"EG_1", VC_LIVEKIT_FAILED}, {"EG_2", VC_LIVEKIT_ACTIVE}},
       .verdict = VERDICT_REST,
       .which = "EG_1"},
      // Of two that nodes began the first by id stays, whoever looks.
      {.egresses = {{"EG_2", VC_LIVEKIT_ACTIVE, 1}, {"EG_1", VC_LIVEKIT_STARTING, 1}},
       .own = "EG_2",
       .verdict = VERDICT_STOP,
       .which = "EG_2"},
      {.egresses = {{"EG_2", VC_LIVEKIT_ACTIVE, 1}, {"EG_1", VC_LIVEKIT_STARTING, 1}},
       .own = "EG_1",
       .verdict = VERDICT_STOP,
       .which = "EG_2"},
      {.egresses = {{"EG_1", VC_LIVEKIT_ACTIVE, 1}, {"EG_2", VC_LIVEKIT_ACTIVE, 1}},
       .verdict = VERDICT_STOP,
       .which = "EG_2"},
      {.egresses = {{"EG_3", VC_LIVEKIT_ACTIVE, 1},
                    {"EG_2", VC_LIVEKIT_ACTIVE, 1},
                    {"EG_1", VC_LIVEKIT_ACTIVE, 1}},
       .verdict = VERDICT_STOP,
       .which = "EG_2"},
      {.egresses = {{"EG_2", VC_LIVEKIT_ENDING, 1}, {"EG_1", VC_LIVEKIT_ACTIVE, 1}},
       .own = "EG_2",
       .verdict = VERDICT_REST},
      {.egresses = {{"EG_1", VC_LIVEKIT_ACTIVE, 1}, {"EG_1", VC_LIVEKIT_ACTIVE, 1}},
       .own = "EG_1",
       .verdict = VERDICT_REST}, // it is listed twice
      // One of another kind, a participant's, is somebody's own affair.
      {.egresses = {{"EG_2", VC_LIVEKIT_ACTIVE}, {"EG_1", VC_LIVEKIT_ACTIVE, 1}},
       .verdict = VERDICT_REST},
      {.egresses = {{"EG_2", VC_LIVEKIT_ACTIVE, 1}, {"EG_1", VC_LIVEKIT_ACTIVE}},
       .own = "EG_2",
       .verdict = VERDICT_REST},
      // That one was too many and was stopped is no wish of anybody's.
      {.egresses = {{"EG_1", VC_LIVEKIT_FAILED, 1}, {"EG_2", VC_LIVEKIT_COMPLETE, 1}},
       .surplus = "EG_2",
       .verdict = VERDICT_START,
       .which = "EG_1"},
      {.egresses = {{"EG_2", VC_LIVEKIT_COMPLETE, 1}}, .surplus = "EG_2", .verdict = VERDICT_START},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct place place;
    const char *which;
    list(&place, rows[i].egresses);
    assert_int_equal(decide_as(&place, "RM_1", rows[i].own, rows[i].surplus, &which),
                     rows[i].verdict);
    assert_string_equal(which, rows[i].which != NULL ? rows[i].which : "");
  }
}

static void test_the_newest_counts(void **state)
{
  (void)state;
  static const struct listed egresses[3] = {{"EG_1", VC_LIVEKIT_FAILED},
                                            {"EG_2", VC_LIVEKIT_COMPLETE}};
  struct place place;
  const char *last;
  list(&place, egresses);
  place.items[0].started_ns = 2;
  place.items[1].started_ns = 1;
  assert_int_equal(decide_about(&place, "RM_1", &last), VERDICT_START);
  assert_string_equal(last, "EG_1");
  place.items[1].started_ns = 3;
  assert_int_equal(decide_about(&place, "RM_1", &last), VERDICT_LEAVE);
  assert_string_equal(last, "EG_2");
  // By its end, where that is said.
  place.items[1].ended_ns = 4;
  place.items[0].ended_ns = 5;
  assert_int_equal(decide_about(&place, "RM_1", &last), VERDICT_START);
  assert_string_equal(last, "EG_1");
}

// Another's, another room's, and those of a room of that name that is over.
static void test_what_does_not_concern_it(void **state)
{
  (void)state;
  static const struct listed egresses[3] = {{"EG_1", VC_LIVEKIT_ACTIVE}};
  struct place place;
  const char *last;
  list(&place, egresses);
  assert_int_equal(decide_about(&place, "RM_2", &last), VERDICT_START);
  assert_int_equal(decide_about(&place, "", &last), VERDICT_REST);
  place.items[0].room.sid[0] = '\0';
  assert_int_equal(decide_about(&place, "RM_2", &last), VERDICT_REST);
  place.items[0].is_ours = 0;
  assert_int_equal(decide_about(&place, "RM_1", &last), VERDICT_START);
  assert_int_equal(decide_as(&place, "RM_1", "EG_1", NULL, &last), VERDICT_REST); // it is, though
  place.items[0].is_ours = 1;
  place.items[0].room.name[0] = 's';
  assert_int_equal(decide_about(&place, "RM_1", &last), VERDICT_START);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_the_newest_counts),
      cmocka_unit_test(test_what_does_not_concern_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
