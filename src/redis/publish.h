// What the files of the publishing worker share.
//
// For each slug that is published here it knows what its stream ends with. Messages are put one
// behind the other without waiting for answers; answers come in the same order. Where one says that
// something is missing the slug is behind: what comes for it live is dropped until the ledger has
// given, on the same lane, what the stream lacks.
//
//   unknown -- a renewal tells what the stream ends with --> level or behind
//   level   -- a hole, an error, a message that found no room --> behind
//   behind  -- all that was put is answered --> asking
//   asking  -- the last piece of history was put --> level; nothing came for ASK_PATIENCE_MS
//              --> behind
//   any     -- the connection is gone, or nothing can be written behind others' word --> unknown
#pragma once

#include "room.h"

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#define OWNED_MAX 16384 // slugs; beyond, ended ones give way, then messages of new ones are dropped
#define ASKING_MAX 64   // at a time
#define ASK_PATIENCE_MS 2000
#define RENEW_MS 3000
#define OWNER_TTL_MS 10000
#define RENEWS_PER_TICK 500 // of 100 ms
#define LET_GO_MS 1000      // a slug that was released and whose stream is not complete is let go

enum standing { STANDING_UNKNOWN, STANDING_LEVEL, STANDING_BEHIND, STANDING_ASKING };

struct owned {
  UT_hash_handle hh;
  struct owned *prev, *next; // in publisher.order
  char slug[VC_SLUG_MAX + 1];
  int64_t epoch;
  int64_t floor; // what was claimed for epochs from this on: what is released before is of another
  enum standing standing;
  struct vc_position wanted;     // the last kept message that there is
  struct vc_position last_final; // of those the last that may be one
  struct vc_position put;        // the last that is on its way to the stream
  struct vc_position done;       // the last that is in it
  uint32_t n_unanswered;
  int is_renewing;
  uint64_t renew_ns;           // due
  uint64_t asked_ns, retry_ns; // no asking before
  uint64_t retry_ms;           // 0: the last try went well
  int is_fenced;               // `epoch` is
  int is_taken;                // by `other`
  int is_given_up;   // others spoke for us, and lack what we said last of what was released
  int is_alone;      // the stream ends with what no node has numbered
  int is_released;   // the ledger says no more of it
  int has_said_last; // because there is no more
  int is_let_go;     // and the key is free
  uint64_t released_ns;
  struct vc_owner other;
  uint64_t given_up_seq, given_up_ours; // what the stream ends with then, and the last of ours
  int must_tell_fenced, must_tell_taken, must_tell_given_up; // the ledger
  int must_tell_released;                                    // the watching worker
};

struct publisher {
  struct vc_redis *redis;
  struct vc_worker *worker;
  struct redis_link link;
  struct owned *slugs; // by slug
  struct owned *order; // the one whose renewal is due first, first
  size_t n_asking;
  struct vc_item *claims; // answered, waiting for room in the watching worker's lane
  struct vc_text text;    // used again and again
  struct vc_log_limit malformed_limit;
  int64_t namesake_ms; // when the name of the other that has it ends, 0: nobody has
  int has_namesake;
  size_t n_alone; // of the slugs, as of the last tick
  int is_draining;
};

static inline struct publisher *publisher_of(struct vc_worker *worker)
{
  return vc_worker_state(worker);
}

int position_compare(const struct vc_position *a, const struct vc_position *b); // <0, 0, >0
void publisher_count(const struct publisher *publisher, enum metric metric, uint64_t n);
// Scripts were forgotten: they are loaded again. Returns: 1 NOSCRIPT, 0 another error.
int publisher_take_error(struct publisher *publisher, const redisReply *reply);
// What Redis has of the slug is of no node's making: counted, and said.
void publisher_malformed(struct publisher *publisher, const char *slug, const char *reason);
int message_is_kept(const struct vc_message *message);
struct vc_position message_position(const struct vc_message *message);
// Its envelope, into publisher.text. Returns: 0, or -1 no memory.
int publisher_print(struct publisher *publisher, const struct vc_message *message,
                    int64_t started_unix_ms);

// --- owned.c

struct owned *owned_find(const struct publisher *publisher, const char *slug);
struct owned *owned_add(struct publisher *publisher, const char *slug); // NULL: no room, no memory
void owned_free(struct publisher *publisher, struct owned *owned);
void owned_claimed(struct publisher *publisher, struct redis_claim *claim);
void owned_message(struct publisher *publisher, const struct vc_fleet *fleet);
void owned_history(struct publisher *publisher, const struct vc_fleet *fleet);
void owned_release(struct publisher *publisher, const struct vc_fleet *fleet);
// What was said for its owner is in the stream: where that is ourselves nothing is left to say.
void owned_orphaned(struct publisher *publisher, const struct vc_message *message);
// The stream is to go: nothing of a slug that was released is written any more.
// Returns: 0, or 1: it is published here.
int owned_forget(struct publisher *publisher, const char *slug);
void owned_link_up(struct publisher *publisher);
void owned_link_down(struct publisher *publisher);
// Each tick: what is due.
void owned_tick(struct publisher *publisher);
// Lets all go. Returns, each time: 1 when they are.
int owned_drain(struct publisher *publisher);

// --- questions.c

void question_handle(struct publisher *publisher, struct vc_query *query); // takes it
