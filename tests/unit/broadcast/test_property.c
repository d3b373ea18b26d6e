// Random runs: viewers whose sockets take what chance gives them, a ledger that answers late, lanes
// that lose messages, history that lets go. Whatever happens, what a viewer reads is whole frames
// in the order of their numbers, and every final after its first is there once or within a gap.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 150
#define STEPS 300
#define HISTORY_MAX 1024
#define UTTERANCES 4
#define PART_MAX 6 // messages in an answer
#define VIEWERS 6

struct said {
  enum vc_message_kind kind;
  struct vc_position at;
  char utterance;
};

// A ledger as small as can be.
struct ledger {
  struct said said[HISTORY_MAX];
  size_t n_said;
  struct vc_position newest, dropped_to; // dropped_to: of the newest epoch
  struct vc_item *requests[VIEWERS * 2];
  size_t n_requests;
  int is_behind; // the lane lost something
};

// What a viewer must have read.
struct reader {
  struct peer *peer;
  int is_gone;
  int has_begun;
  struct vc_position at;
  struct vc_position begun; // finals after this one are owed
};

struct run {
  struct rig *rig;
  struct ledger ledger;
  struct reader readers[VIEWERS];
  unsigned seed;
};

static unsigned chance(struct run *run, unsigned n)
{
  run->seed = run->seed * 1103515245 + 12345;
  return (run->seed >> 16) % n;
}

static int is_before(struct vc_position a, struct vc_position b)
{
  return a.epoch != b.epoch ? a.epoch < b.epoch : a.seq < b.seq;
}

static int is_open(const struct ledger *ledger, size_t index)
{
  const struct said *partial = &ledger->said[index];
  for (size_t i = index + 1; i < ledger->n_said; i++) {
    if (ledger->said[i].at.epoch != partial->at.epoch ||
        (ledger->said[i].utterance == partial->utterance && ledger->said[i].utterance != 0)) {
      return 0;
    }
  }
  return partial->at.epoch == ledger->newest.epoch;
}

static struct vc_message *message_of(const struct said *said)
{
  return rig_message(said->kind, "demo", said->at.epoch, said->at.seq, said->utterance, 0);
}

static struct vc_message *hello_of(int64_t epoch, uint64_t seq)
{
  return rig_message(VC_MESSAGE_HELLO, "demo", epoch, seq, 0, 0);
}

// --- the ledger

static void put_live(struct run *run, struct vc_message *message)
{
  if (chance(run, 20) == 0) { // the lane is full
    run->ledger.is_behind = 1;
    vc_message_unref(message);
  } else if (run->ledger.is_behind) {
    run->ledger.is_behind = 0;
    rig_live_after_loss(run->rig, message);
  } else {
    rig_live(run->rig, message);
  }
}

static void begin_epoch(struct run *run)
{
  struct ledger *ledger = &run->ledger;
  ledger->newest = (struct vc_position){ledger->newest.epoch + 1, 0};
  ledger->dropped_to = ledger->newest;
  put_live(run, hello_of(ledger->newest.epoch, 0));
}

static void say(struct run *run)
{
  static const enum vc_message_kind kinds[] = {
      VC_MESSAGE_PARTIAL, VC_MESSAGE_PARTIAL, VC_MESSAGE_PARTIAL, VC_MESSAGE_FINAL,
      VC_MESSAGE_FINAL,   VC_MESSAGE_RETRACT, VC_MESSAGE_STATUS};
  struct ledger *ledger = &run->ledger;
  if (ledger->newest.epoch == 0 || chance(run, 60) == 0) {
    begin_epoch(run);
    return;
  }
  struct said *said = &ledger->said[ledger->n_said++];
  ledger->newest.seq++;
  said->at = ledger->newest;
  said->kind = kinds[chance(run, sizeof kinds / sizeof *kinds)];
  said->utterance = said->kind == VC_MESSAGE_STATUS ? '\0' : (char)('a' + chance(run, UTTERANCES));
  put_live(run, message_of(said));
}

// Everything of the newest epoch up to somewhere is forgotten.
static void forget(struct run *run)
{
  struct ledger *ledger = &run->ledger;
  uint64_t newest = ledger->newest.seq, dropped = ledger->dropped_to.seq;
  if (newest > dropped + 4) {
    ledger->dropped_to.seq = dropped + 1 + chance(run, (unsigned)(newest - dropped - 3));
  }
}

static void fill(struct run *run, struct vc_answer *answer, struct vc_position at)
{
  const struct ledger *ledger = &run->ledger;
  for (size_t i = 0; i < ledger->n_said; i++) {
    const struct said *said = &ledger->said[i];
    if (!is_before(at, said->at) || (said->kind == VC_MESSAGE_PARTIAL && !is_open(ledger, i))) {
      continue;
    }
    if (answer->n_messages >= PART_MAX) {
      return;
    }
    if (said->at.epoch != at.epoch) {
      rig_answer_add(answer, hello_of(said->at.epoch, 0));
      at = (struct vc_position){said->at.epoch, 0};
    }
    if (said->at.epoch == ledger->newest.epoch && is_before(at, ledger->dropped_to)) {
      at = ledger->dropped_to;
      rig_answer_add(answer, rig_message(VC_MESSAGE_GAP, "demo", at.epoch, at.seq, 0, 0));
    }
    if (is_before(at, said->at)) {
      at = said->at;
      rig_answer_add(answer, message_of(said));
    }
  }
  if (at.epoch != ledger->newest.epoch) {
    rig_answer_add(answer, hello_of(ledger->newest.epoch, 0));
  }
  answer->is_last = 1;
  answer->live_from = (struct vc_position){ledger->newest.epoch, ledger->newest.seq + 1};
}

static struct reader *reader_of(struct run *run, uint64_t id)
{
  for (size_t i = 0; i < VIEWERS; i++) {
    if (run->readers[i].peer != NULL && run->readers[i].peer->id == id) {
      return &run->readers[i];
    }
  }
  return NULL;
}

static void answer(struct run *run, struct vc_item *item)
{
  struct reader *reader;
  struct vc_position at;
  if (item->kind == VC_ITEM_JOIN) {
    const struct vc_join *join = (const struct vc_join *)item;
    reader = reader_of(run, join->viewer_id);
    at = run->ledger.newest;
  } else {
    const struct vc_catch_up *catch_up = (const struct vc_catch_up *)item;
    reader = reader_of(run, catch_up->viewer_id);
    at = catch_up->position;
  }
  if (reader != NULL) {
    struct vc_answer *answer = rig_answer(reader->peer, "demo");
    if (item->kind == VC_ITEM_JOIN) {
      reader->has_begun = 1;
      reader->begun = at;
      rig_answer_add(answer, hello_of(at.epoch, at.seq));
    }
    fill(run, answer, at);
    rig_answer_part(run->rig, reader->peer, answer);
  }
  vc_item_destroy(item);
}

static void take_requests(struct run *run)
{
  struct vc_item *item;
  while ((item = hand_take(run->rig->ledger, 0)) != NULL) {
    if (item->kind == VC_ITEM_LEAVE) {
      vc_item_destroy(item);
    } else {
      assert_true(run->ledger.n_requests < sizeof run->ledger.requests / sizeof(void *));
      run->ledger.requests[run->ledger.n_requests++] = item;
    }
  }
}

static void answer_first(struct run *run)
{
  struct ledger *ledger = &run->ledger;
  if (ledger->n_requests > 0) {
    struct vc_item *first = ledger->requests[0];
    memmove(ledger->requests, ledger->requests + 1, --ledger->n_requests * sizeof first);
    answer(run, first);
  }
}

// --- the readers

static int is_owed(const struct said *said, struct vc_position after, struct vc_position before)
{
  return said->kind == VC_MESSAGE_FINAL && is_before(after, said->at) &&
         is_before(said->at, before);
}

static void check_none_missed(const struct run *run, struct vc_position after,
                              struct vc_position before)
{
  for (size_t i = 0; i < run->ledger.n_said; i++) {
    if (is_owed(&run->ledger.said[i], after, before)) {
      fail_msg("the final %lld.%llu was not given", (long long)run->ledger.said[i].at.epoch,
               (unsigned long long)run->ledger.said[i].at.seq);
    }
  }
}

static void check_word(const struct run *run, struct reader *reader, const char *word)
{
  long long epoch;
  unsigned long long seq;
  assert_int_equal(sscanf(word + 1, "%lld.%llu", &epoch, &seq), 2);
  struct vc_position at = {epoch, seq};
  if (word[0] == 'H') {
    assert_false(epoch < reader->at.epoch);
    if (reader->at.epoch == 0 && reader->has_begun) {
      reader->at = reader->begun;
    }
    return;
  }
  assert_true(is_before(reader->at, at));
  if (word[0] != 'G') {
    check_none_missed(run, reader->at, at);
  } else {
    check_none_missed(run, reader->at, (struct vc_position){epoch, 0});
  }
  reader->at = at;
}

static void check_read(const struct run *run, struct reader *reader)
{
  peer_read(reader->peer);
  for (char *rest = reader->peer->told, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
    check_word(run, reader, word);
  }
}

static void come(struct run *run, struct reader *reader)
{
  *reader = (struct reader){.peer = rig_come(run->rig, "demo", (struct vc_position){0})};
}

static void come_or_go(struct run *run)
{
  struct reader *reader = &run->readers[chance(run, VIEWERS)];
  if (reader->peer != NULL) {
    check_read(run, reader);
    peer_hang_up(reader->peer);
    reader->peer = NULL;
  } else if (run->rig->n_peers < RIG_PEERS_MAX) {
    come(run, reader);
  }
}

static void move_socket(struct run *run)
{
  const struct reader *reader = &run->readers[chance(run, VIEWERS)];
  if (reader->peer == NULL) {
    return;
  }
  switch (chance(run, 3)) {
  case 0:
    rig_stall(reader->peer, chance(run, 60));
    break;
  case 1:
    rig_take(run->rig, reader->peer, chance(run, 60));
    break;
  default:
    rig_take(run->rig, reader->peer, SIZE_MAX);
    break;
  }
}

static void step(struct run *run)
{
  unsigned what = chance(run, 20);
  if (what < 9) {
    say(run);
  } else if (what < 12) {
    move_socket(run);
  } else if (what < 14) {
    take_requests(run);
    answer_first(run);
  } else if (what < 15 && chance(run, 4) == 0) {
    come_or_go(run);
  } else if (what < 16 && chance(run, 4) == 0) {
    forget(run);
  } else {
    rig_turn(run->rig);
  }
}

static void settle(struct run *run)
{
  for (size_t i = 0; i < VIEWERS; i++) {
    if (run->readers[i].peer != NULL) {
      rig_take(run->rig, run->readers[i].peer, SIZE_MAX);
    }
  }
  if (run->ledger.is_behind && run->ledger.newest.epoch != 0) { // the newest one again
    const struct said *last = &run->ledger.said[run->ledger.n_said - (run->ledger.n_said > 0)];
    int is_hello = run->ledger.newest.seq == 0;
    run->ledger.is_behind = 0;
    rig_live_after_loss(run->rig,
                        is_hello ? hello_of(run->ledger.newest.epoch, 0) : message_of(last));
  }
  for (int i = 0; i < 400; i++) {
    rig_turn(run->rig);
    take_requests(run);
    answer_first(run);
  }
}

static void check_end(struct run *run)
{
  for (size_t i = 0; i < VIEWERS; i++) {
    struct reader *reader = &run->readers[i];
    if (reader->peer != NULL) {
      check_read(run, reader);
      struct vc_position end = {run->ledger.newest.epoch, run->ledger.newest.seq + 1};
      check_none_missed(run, is_before(reader->at, reader->begun) ? reader->begun : reader->at,
                        end);
    }
  }
}

static void small_ring(struct rig *rig)
{
  rig->options.max_broadcast_queue_size = 16;
  rig->n_workers = 2;
}

static void play(unsigned seed)
{
  struct run *run = calloc(1, sizeof *run);
  assert_non_null(run);
  run->seed = seed;
  run->rig = rig_create(small_ring);
  for (size_t i = 0; i < VIEWERS / 2; i++) {
    come(run, &run->readers[i]);
  }
  for (int i = 0; i < STEPS; i++) {
    step(run);
  }
  settle(run);
  check_end(run);
  for (size_t i = 0; i < run->ledger.n_requests; i++) {
    vc_item_destroy(run->ledger.requests[i]);
  }
  rig_destroy(run->rig);
  free(run);
}

static void test_random_runs(void **state)
{
  for (unsigned seed = 1; seed <= RUNS; seed++) {
    play(seed);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_runs)};
  return cmocka_run_group_tests_name("broadcast/property", tests, NULL, NULL);
}
