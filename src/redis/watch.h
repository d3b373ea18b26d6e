// What the files of the watching worker share.
//
//   watch.c       the stage: what goes to the ledger, its two connections, whether Redis is there
//   watched.c     a slug that is watched: its channel, its stream, its owner
//   claim.c       a slug that becomes, and is, this node's; what owners say to each other
//   incoming.c    JSON -> vc_remote
//   transcript.c  a slug's records, for who asks
//
// Two connections, because one that is subscribed takes no commands. What owners say (ctl) is heard
// of all slugs, so that a claim need not subscribe first and an erasure reaches all nodes; a
// slug's messages (live) only while it is watched.
//
// A channel that Redis refuses is asked for again, CHANNEL_AGAIN_FIRST_MS to CHANNEL_AGAIN_MAX_MS
// later, alone; each time the stream is read in its stead.
//
// Bounds: READING_MAX pieces of streams are read at a time, of READ_ENTRIES_MAX entries and
// READ_BYTES_MAX bytes (one entry may be larger); ASKED_MAX channels wait for Redis' confirmation;
// what the ledger's lane did not take is kept, and nothing is read until it is empty: it is at most
// what one reply led to.
#pragma once

#include "order.h"
#include "room.h"

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>
#include <utlist.h>

#define READING_MAX 64
#define READ_ENTRIES_MAX 100
#define READ_BYTES_MAX (1024 * 1024)
#define ASKED_MAX 1000
#define CHANNELS_MAX 100 // in one command
#define CHANNEL_AGAIN_FIRST_MS 1000
#define CHANNEL_AGAIN_MAX_MS 10000
#define POLL_MS 3000
#define ANSWER_MS 300   // a step of a claim without an answer of Redis
#define LEAVING_MS 500  // the node before has this long to say that it is there
#define RELEASE_MS 2200 // and to say its last: it gives up after 2 s, which must be heard
#define CLAIM_MS 2900   // all of a claim, its read too; the ledger waits for 3 s
#define COME_UP_MS 1000 // from the start to a Redis that is away
#define RETRY_LANE_MS 1
#define SPARES 16
#define TRANSCRIPTS_MAX 16
#define TRANSCRIPT_BYTES_MAX ((size_t)64 * 1024 * 1024)

enum channel { // `live` of a slug, or ctl of all
  CHANNEL_OFF,
  CHANNEL_ASKED,
  CHANNEL_ON,
};

// What Redis refused.
struct refusal {
  uint64_t again_ms; // it is asked for again so much later; 0: it was not refused
  uint64_t again_ns; // that is then
};

struct claim;

struct slug {
  UT_hash_handle hh;                      // in watcher.slugs
  struct slug *prev, *next;               // in watcher.polled, while watched
  struct slug *change_prev, *change_next; // in *list
  struct slug *read_prev, *read_next;     // in watcher.to_read
  char name[VC_SLUG_MAX + 1];
  uint32_t ledger; // its worker
  struct watcher *watcher;
  struct slug **list; // the watcher's changed, asked or refused; NULL: none
  int is_in_to_read;
  size_t n_calls;  // commands under way that come back to it
  size_t n_claims; // the publishing worker has not answered: the last answer counts
  enum channel channel;
  uint64_t command; // CHANNEL_ASKED: by which
  /* watched */
  int is_watched;
  int is_filled;         // VC_REMOTE_FILLED was said
  int owes_fill;         // before VC_REMOTE_BACK
  struct vc_owner owner; // as the ledger knows it
  int asks_alone;        // for its channel: a command with others was refused
  struct refusal refusal;
  /* watched, or a claim that reads */
  struct order order;
  uint64_t serial;  // of the order: what a read of an older one brings is dropped
  uint64_t fill_ns; // when it was asked for
  /* ours */
  int is_owned;
  int64_t own_epoch;   // 0: not known
  struct claim *claim; // NULL: none
};

enum claim_phase {
  CLAIM_CONNECTING, // until Redis is there and ctl is heard
  CLAIM_ASKING,     // the publishing worker
  CLAIM_RELEASING,  // the node that has it
  CLAIM_READING,
};

struct claim {
  struct claim *prev, *next; // in watcher.claims
  struct slug *slug;
  enum claim_phase phase;
  struct vc_position position;
  int is_over; // its epoch is
  int64_t epoch_floor;
  uint64_t began_ns, until_ns;
  int64_t epoch;            // that Redis gave
  struct vc_owner previous; // whose it was
  struct vc_owner released; // who let go since the claim began
  struct vc_owner leaving;  // who is about to
  struct vc_owner taken;    // who has claimed it after us
  int is_after_loss;        // not all that was said before was heard of
};

struct watcher {
  /* set on entry, then read-only */
  struct vc_redis *redis;
  struct vc_worker *worker;
  uint32_t n_ledgers;
  char live_prefix[REDIS_KEY_MAX], ctl_prefix[REDIS_KEY_MAX]; // of channels
  char ctl_pattern[2 * REDIS_KEY_MAX];
  uint64_t started_ns;
  /* the worker's */
  struct redis_link subscriber, commander;
  enum channel ctl;
  uint64_t ctl_command; // CHANNEL_ASKED: by which
  struct refusal ctl_refusal;
  uint64_t n_commands; // of the subscriber that can be refused
  int is_deaf;         // one was, and that was said
  int is_away;         // the ledger was told
  uint64_t away_ns;
  size_t n_owing;
  struct slug *slugs;                      // by name
  struct slug *polled, *changed, *to_read; // lists
  struct slug *asked;                      // CHANNEL_ASKED, in the order of the commands
  struct slug *refused;                    // wait until they are asked for again
  uint64_t polled_ns;
  size_t n_watched, n_on, n_asked, n_refused, n_reading;
  struct claim *claims;
  struct transcript *transcripts;
  size_t n_transcripts;
  struct vc_item **unput; // to each worker of the ledger
  size_t n_unput;
  struct vc_item *spares; // for when there is no memory to tell what must be told
  size_t n_spares;
  struct vc_item *postponed; // what the ledger wants, from the first on for which there was none
  struct order_counts counts, told_counts;
  struct vc_log_limit malformed_limit, memory_limit;
  int is_draining;
};

uint64_t watcher_now(const struct watcher *watcher);
void watcher_count(const struct watcher *watcher, enum metric metric, uint64_t n);
void watcher_out_of_memory(struct watcher *watcher);
// What another wrote is not what it should be; `error` is said, and the text counted.
void watcher_malformed(struct watcher *watcher, const char *slug, const struct vc_error *error);
// Scripts that were forgotten are loaded again.
void watcher_take_error(struct redis_link *link, const redisReply *reply);
// What is to be told; of the spares where there is no memory. NULL: none is left.
struct vc_remote *watcher_make(struct watcher *watcher, enum vc_remote_kind kind, const char *slug);
// Takes the item, which may be NULL.
void watcher_tell(struct watcher *watcher, uint32_t ledger, struct vc_remote *remote);
// Redis refuses `channel`, for this reason: counted, and said where it is the first.
void watcher_refused(struct watcher *watcher, struct refusal *refusal, const char *channel,
                     const char *reason);
// It does not any more, or nobody asks.
void watcher_not_refused(struct watcher *watcher, struct refusal *refusal);
// Both connections are up and ctl is heard.
int watcher_is_ready(const struct watcher *watcher);
// For so long that no claim need wait for it.
int watcher_is_long_away(const struct watcher *watcher);
struct slug *slug_find(const struct watcher *watcher, const char *name);
struct slug *slug_get(struct watcher *watcher, const char *name); // NULL without memory
// Frees it when nothing holds it any more.
void slug_release(struct slug *slug);

// --- incoming.c

// A message of the slug. Gives: *remote. Returns: as vc_envelope_parse.
int incoming_parse(const char *text, size_t size, const char *slug, struct vc_remote **remote,
                   struct vc_error *error);

// --- watched.c

// Returns: 0, or -1 no memory.
int watched_begin(struct watcher *watcher, const struct vc_fleet *fleet);
void watched_end(struct slug *slug);
void watched_confirm(struct slug *slug); // the channel is on
// The channels of the first command that is not answered are refused; there is one.
void watched_refused(struct watcher *watcher, const char *reason);
void watched_ask_again(struct watcher *watcher); // each tick: for what was refused
void watched_live(struct slug *slug, const char *text, size_t size);
// All channels are off: the connection broke.
void watched_deaf(struct watcher *watcher);
// Subscribes, and begins reads, as far as the bounds allow.
void watched_settle_channels(struct watcher *watcher);
void watched_settle_reads(struct watcher *watcher);
void watched_poll(struct watcher *watcher);
// Another has the slug, or nobody: epoch 0.
void watched_owner(struct slug *slug, const struct vc_owner *owner);
// The order begins anew after the position, whose epoch may be over, for a claim or to be watched.
void slug_order_begin(struct slug *slug, struct vc_position after, int is_over);
void slug_order_end(struct slug *slug);
// The slug's order may want a read.
void slug_look(struct slug *slug);

// A piece of a stream: after `after`, and whose the slug is. Returns: as link_send.
int stream_read(struct watcher *watcher, const struct redis_call *call, const char *slug,
                struct vc_position after);
struct piece {
  struct vc_position begins; // the stream, (0, 0): it is empty
  int is_last;
  const char *owner; // as it stands in the key, "" none
  size_t owner_size;
  size_t n;
  redisReply **at; // id and message of each entry
};
// Returns: 0, or -1: it is none.
int stream_parse(const redisReply *reply, struct piece *piece);
// The i-th entry, whose message is parsed. Gives: *remote. Returns: as vc_envelope_parse, or
// PIECE_NO_NUMBER: its id is none of ours.
#define PIECE_NO_NUMBER 3
int stream_entry(const struct piece *piece, size_t i, const char *slug, struct vc_position *number,
                 struct vc_remote **remote, struct vc_error *error);

// --- claim.c

// Returns: 0, or -1 no memory.
int claim_begin(struct watcher *watcher, const struct vc_fleet *fleet);
void claim_answered(struct watcher *watcher, const struct redis_claim *answer);
void claim_has_read(struct slug *slug);
void claim_is_reading(struct slug *slug); // Redis answers
// It is not answered: the ledger does not want it any more.
void claim_cancel(struct slug *slug);
void claims_step(struct watcher *watcher); // each tick, and when Redis came up
void claims_fini(struct watcher *watcher);
void claim_released(struct watcher *watcher, const struct redis_released *released);
void ctl_handle(struct watcher *watcher, const char *name, const char *text, size_t size);

// --- transcript.c

void transcript_begin(struct watcher *watcher, struct vc_query *query); // takes it
void transcripts_fini(struct watcher *watcher);
