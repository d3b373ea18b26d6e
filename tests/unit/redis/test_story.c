// An owner and two nodes that watch it, through a redis-server that is killed, frozen, emptied and
// cut off by seeds. The test is the owner's ledger, which has all it ever said and gives what it is
// asked for; and the watchers', which must get each kept message once and in order. Nothing is
// trimmed, so that nothing may be lost.
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define KEPT_MAX 8000
#define PIECE_MAX 64
#define STORY_MS 6000
#define N_WATCHERS 2

struct watching {
  struct node node;
  size_t n_given; // of the kept messages, all before it too
  uint64_t last;  // seq of what was given last
  int is_new;     // until it is filled what was on its way before may come
  size_t n_gaps, n_away, n_back;
};

struct story {
  uint64_t random;
  struct server server;
  struct node owner;
  int64_t epoch;
  uint64_t seq;
  struct vc_message *kept[KEPT_MAX];
  size_t n_kept;
  size_t n_asked;
  struct watching watchers[N_WATCHERS];
  uint64_t next_ms;
  int is_frozen, is_dead;
};

static uint64_t now_ms(void)
{
  return vc_clock_now_ns(&vc_clock_system) / VC_NS_PER_MS;
}

static uint32_t next(struct story *story, uint32_t below)
{
  story->random ^= story->random << 13;
  story->random ^= story->random >> 7;
  story->random ^= story->random << 17;
  return (uint32_t)(story->random >> 16) % below;
}

// --- the owner's ledger

static void say(struct story *story, char letter)
{
  uint64_t prev = story->n_kept > 0 ? story->kept[story->n_kept - 1]->seq : 0;
  struct vc_message *message =
      node_message("owner", "demo", letter, story->epoch, letter == 'h' ? 0 : ++story->seq, prev);
  node_put_message(&story->owner, message);
  if (letter != 'p') {
    assert_true(story->n_kept < KEPT_MAX);
    story->kept[story->n_kept++] = vc_message_ref(message);
  }
  vc_message_unref(message);
}

static void give(struct story *story, struct vc_position after)
{
  size_t at = 0;
  while (at < story->n_kept && after.epoch > 0 && story->kept[at]->seq <= after.seq) {
    at++;
  }
  do {
    size_t n = story->n_kept - at < PIECE_MAX ? story->n_kept - at : PIECE_MAX;
    node_give(&story->owner, "demo", after, at + n == story->n_kept, story->kept + at, n);
    at += n;
    after = (struct vc_position){story->epoch, story->kept[at - 1]->seq};
  } while (at < story->n_kept);
}

static void serve_owner(struct story *story)
{
  struct vc_remote *remote;
  char said[NODE_MAX_SAID];
  while ((remote = node_try(&story->owner)) != NULL) {
    node_print(remote, said);
    if (remote->kind == VC_REMOTE_ASK) {
      story->n_asked++;
      give(story, (struct vc_position){remote->epoch, remote->seq});
    } else if (remote->kind != VC_REMOTE_AWAY && remote->kind != VC_REMOTE_BACK) {
      fail_msg("the owner was told: %s", said);
    }
    vc_item_destroy(&remote->item);
  }
}

// --- a watcher's ledger

static void take_message(struct story *story, struct watching *watching,
                         const struct vc_message *message)
{
  assert_int_equal(message->epoch, story->epoch);
  if (watching->is_new && watching->n_given > 0 && message->seq <= watching->last) {
    return; // as a ledger passes over what it has
  }
  assert_true(message->seq > watching->last || watching->n_given == 0);
  watching->last = message->seq;
  if (message->kind != VC_MESSAGE_PARTIAL) {
    assert_true(watching->n_given < story->n_kept);
    assert_int_equal(message->seq, story->kept[watching->n_given]->seq);
    watching->n_given++;
  }
}

static void serve_watcher(struct story *story, struct watching *watching)
{
  struct vc_remote *remote;
  while ((remote = node_try(&watching->node)) != NULL) {
    if (remote->kind == VC_REMOTE_MESSAGE) {
      take_message(story, watching, remote->message);
    }
    watching->is_new &= remote->kind != VC_REMOTE_FILLED;
    watching->n_gaps += remote->kind == VC_REMOTE_GAP;
    watching->n_away += remote->kind == VC_REMOTE_AWAY;
    watching->n_back += remote->kind == VC_REMOTE_BACK;
    vc_item_destroy(&remote->item);
  }
  assert_true(watching->n_back <= watching->n_away && watching->n_away <= watching->n_back + 1);
}

static struct vc_position position_of(const struct story *story, const struct watching *watching)
{
  return watching->n_given > 0
             ? (struct vc_position){story->epoch, story->kept[watching->n_given - 1]->seq}
             : (struct vc_position){0, 0};
}

// A last viewer leaves, another comes.
static void come_and_go(struct story *story, struct watching *watching)
{
  node_unwatch(&watching->node, "demo");
  serve_watcher(story, watching);
  struct vc_position position = position_of(story, watching);
  watching->is_new = 1;
  node_watch(&watching->node, "demo", position.epoch, position.seq);
}

// --- what happens to Redis

static void recover(struct story *story)
{
  if (story->is_dead) {
    server_start_again(&story->server, NULL);
  } else if (story->is_frozen) {
    server_thaw(&story->server);
  }
  story->is_dead = story->is_frozen = 0;
}

static void happen(struct story *story)
{
  switch (next(story, 7)) {
  case 0:
    server_kill(&story->server);
    story->is_dead = 1;
    break;
  case 1:
    server_freeze(&story->server);
    story->is_frozen = 1;
    break;
  case 2:
    server_do(&story->server, "FLUSHALL");
    break;
  case 3:
    server_do(&story->server, "CLIENT KILL TYPE pubsub");
    break;
  case 4:
    server_do(&story->server, "CLIENT KILL TYPE normal SKIPME yes");
    break;
  case 5:
    server_do(&story->server, "SCRIPT FLUSH SYNC");
    break;
  default:
    come_and_go(story, &story->watchers[next(story, N_WATCHERS)]);
    break;
  }
}

static void turn_fate(struct story *story)
{
  if (now_ms() < story->next_ms) {
    return;
  }
  int is_down = story->is_dead || story->is_frozen;
  if (is_down) {
    recover(story);
  } else {
    happen(story);
  }
  is_down = story->is_dead || story->is_frozen;
  story->next_ms = now_ms() + 100 + next(story, is_down ? 2500 : 700);
}

// --- the story

static void serve_all(struct story *story)
{
  serve_owner(story);
  for (size_t i = 0; i < N_WATCHERS; i++) {
    serve_watcher(story, &story->watchers[i]);
  }
}

static void begin(struct story *story)
{
  server_start(&story->server, NULL);
  node_start(&story->owner, &story->server, "owner", NULL);
  node_await_ready(&story->owner);
  node_claim(&story->owner, "demo", (struct vc_position){0, 0}, 5);
  node_expect(&story->owner, "demo owned 5");
  story->epoch = 5;
  for (size_t i = 0; i < N_WATCHERS; i++) {
    node_start(&story->watchers[i].node, &story->server, i == 0 ? "first" : "second", NULL);
    node_await_ready(&story->watchers[i].node);
    node_watch(&story->watchers[i].node, "demo", 0, 0);
  }
  say(story, 'h');
}

// All that was said has come.
static void await_all(struct story *story)
{
  uint64_t until = now_ms() + SERVER_PATIENCE_MS;
  for (size_t i = 0; i < N_WATCHERS; i++) {
    struct watching *watching = &story->watchers[i];
    while (watching->n_given < story->n_kept || watching->n_back < watching->n_away) {
      serve_all(story);
      usleep(2000);
      if (now_ms() > until) {
        fail_msg("watcher %zu has %zu of %zu", i, watching->n_given, story->n_kept);
      }
    }
    assert_int_equal(watching->n_gaps, 0);
  }
}

static void end(struct story *story)
{
  node_stop(&story->owner);
  for (size_t i = 0; i < N_WATCHERS; i++) {
    node_stop(&story->watchers[i].node);
  }
  server_stop(&story->server);
  for (size_t i = 0; i < story->n_kept; i++) {
    vc_message_unref(story->kept[i]);
  }
}

static void run(struct story *story, uint64_t seed)
{
  story->random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
  begin(story);
  uint64_t until = now_ms() + STORY_MS;
  while (now_ms() < until) {
    say(story, next(story, 3) == 0 ? 'f' : 'p');
    serve_all(story);
    turn_fate(story);
    usleep(next(story, 8000));
  }
  recover(story);
  say(story, 'e');
  await_all(story);
  print_message("seed %d: %zu kept, asked %zu times, away %zu and %zu times\n", (int)seed,
                story->n_kept, story->n_asked, story->watchers[0].n_away,
                story->watchers[1].n_away);
  end(story);
}

static void test_nothing_is_lost(void **state)
{
  const char *seeds = getenv("VC_STORY_SEEDS"); // "1-20"
  uint64_t first = 1, last = 2;
  if (seeds != NULL) {
    char *rest;
    first = last = strtoull(seeds, &rest, 10);
    last = *rest == '-' ? strtoull(rest + 1, NULL, 10) : last;
  }
  for (uint64_t seed = first; seed <= last; seed++) {
    struct story *story = calloc(1, sizeof *story);
    run(story, seed);
    free(story);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_lost)};
  if (!server_is_there("redis/story")) {
    return 0;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}
