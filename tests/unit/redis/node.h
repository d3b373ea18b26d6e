// A node's whole redis room on a redis-server: the test is its ledger. What comes to the ledger is
// told as a text, one thing after the other. Every wait is for a condition and bounded by
// SERVER_PATIENCE_MS.
#pragma once

#include "room.h"
#include "server.h"

#define NODE_MAX_SAID 320

struct node {
  struct vc_redis_options options;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_redis *redis;
  struct vc_stage *ledger;
  struct vc_putter *to_publisher, *to_watcher;
  const char *name;
  /* under the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct vc_item *remotes; // what came to the ledger, the oldest first
  int is_blocked;          // the ledger takes nothing
  char ended[VC_SLUG_MAX + 1];
  int n_ended; // sessions that somebody wants to be over
};

struct node_settings {
  uint32_t n_ledgers;   // 0: one worker
  size_t lane_capacity; // of the ledger, 0: many
  const char *prefix;   // NULL: "vc:"
};
void node_start(struct node *node, const struct server *server, const char *name,
                const struct node_settings *settings);
void node_stop(struct node *node);
void node_block(struct node *node, int is_blocked);

// Waits for the next thing; gives it.
struct vc_remote *node_take(struct node *node);
struct vc_remote *node_try(struct node *node); // NULL: there is none now
// What it is: "demo 5.3", "demo [5.0-2]", "demo filled 5 a", "demo owner 0", "demo owned 7", "demo
// owned after loss 7", "demo taken 9 b", "demo fenced 5", "demo given up 5", "demo asked 5.2",
// "demo erased 5", "away", "back".
void node_print(const struct vc_remote *remote, char into[NODE_MAX_SAID]);
// The next thing is that.
void node_expect(struct node *node, const char *said);
void node_expect_nothing(struct node *node);

// Made before memory gives out, and put then.
struct vc_fleet *node_turn(enum vc_fleet_kind kind, const char *slug, struct vc_position position);
void node_put_turn(struct node *node, struct vc_fleet *turn); // to the watching worker
void node_watch(struct node *node, const char *slug, int64_t epoch, uint64_t seq);
void node_unwatch(struct node *node, const char *slug);
void node_claim(struct node *node, const char *slug, struct vc_position position, int64_t floor);
// To the publishing worker.
void node_say(struct node *node, const char *slug, char letter, int64_t epoch, uint64_t seq,
              uint64_t prev);
// The answer to what was asked: a piece of an epoch behind a position. Borrows the messages.
void node_give(struct node *node, const char *slug, struct vc_position after, int is_last,
               struct vc_message *const *messages, size_t n);
void node_put_message(struct node *node, struct vc_message *message); // borrows it
void node_release(struct node *node, const char *slug, int64_t epoch, uint64_t seq);
// The same while somebody still publishes.
void node_give_up(struct node *node, const char *slug, int64_t epoch, uint64_t seq);
void node_put_query(struct node *node, struct vc_query *query); // to the watching worker
struct vc_query *node_ask(struct node *node, const char *slug); // for its transcript

uint64_t node_counter(struct node *node, const char *name);
int64_t node_gauge(struct node *node, const char *name);
void node_await_counter(struct node *node, const char *name, uint64_t at_least);
void node_await_gauge(struct node *node, const char *name, int64_t value);
// Redis is there and the watching worker is ready for all.
void node_await_ready(struct node *node);

// A message of a slug: h hello, p partial, f final, r retract, s status, e end.
struct vc_message *node_message(const char *node, const char *slug, char letter, int64_t epoch,
                                uint64_t seq, uint64_t prev);
// As another node would write it.
void write_envelope(struct vc_text *text, const char *slug, char letter, int64_t epoch,
                    uint64_t seq, uint64_t prev);
// The same into the stream, onto the channel, both.
void entry(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
           uint64_t prev);
void publish(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
             uint64_t prev);
void both(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
          uint64_t prev);
