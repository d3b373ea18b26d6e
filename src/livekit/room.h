// What the files of the room share. LiveKit's rooms are called meetings here, because a room is a
// part of this program.
//
//   room.c      the stage: webhooks in, verified; what each of them means; time
//   rows.c      options and metrics, and which options go together
//   meeting.c   a meeting that needs an egress: looked at, started, tried again
//   poll.c      all of LiveKit's rooms and egresses, for what no webhook said
//   call.c      one call of a Twirp service
//   decide.c    what is to be done, from what is listed
#pragma once

#include <verbacast/flow/session.h>
#include <verbacast/livekit.h>
#include <verbacast/net/client.h>
#include <verbacast/wire/livekit.h>

#include <verbacast/base/log.h>

#include <pthread.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#define URL_MAX 1024 // of LIVEKIT_URL and LIVEKIT_AUTO_EGRESS
#define REASON_MAX 128

// Rows of vc_livekit_metrics.
enum {
  WEBHOOKS_TAKEN,
  WEBHOOKS_REPEATED,
  WEBHOOKS_REFUSED,
  WEBHOOKS_UNQUEUED,
  WEBHOOKS_MALFORMED,
  EGRESS_STARTS,
  EGRESS_FAILURES,
  EGRESS_STOPS,
  POLLS,
  POLL_FAILURES,
  CALL_FAILURES,
  MEETINGS,
  MEETINGS_REFUSED,
  OUT_OF_MEMORY,
};

enum phase {
  PHASE_LOOKING, // until it has its egress
  PHASE_SERVED,  // it has; forgotten when it is due
  PHASE_LEFT,    // its egress ended as somebody wanted; forgotten when it is due
};

struct meeting {
  struct vc_livekit_room room;
  char slug[VC_SLUG_MAX + 1];
  char own[VC_LIVEKIT_ID_MAX + 1];     // the egress that we have just started, "" none
  char surplus[VC_LIVEKIT_ID_MAX + 1]; // one that was seen to be too many, "" none
  char claim[VC_SLUG_MAX + 1];         // the key that is ours until claimed_ns
  uint64_t claimed_ns;
  uint64_t on_ns;  // when it was known to be on, 0: it is to be asked
  uint64_t due_ns; // the next step, 0: none, or a call is under way
  uint64_t backoff_ms;
  enum phase phase;
  int is_failing; // its last call, or its egress, did
  int has_news;   // that may be newer than what the call under way lists
  struct vc_livekit *livekit;
  struct vc_post *post; // NULL: no call
  UT_hash_handle hh;    // in vc_livekit.meetings, by name
};

struct event {
  char id[VC_LIVEKIT_ID_MAX + 1];
  UT_hash_handle hh; // in vc_livekit.events, oldest first
};

struct poll {
  uint64_t due_ns; // 0: it is under way, or there is none
  int is_failing;
  struct vc_livekit_rooms rooms; // while the egresses are asked for
  struct vc_post *post;
};

struct vc_livekit {
  /* set before start, then read-only */
  struct vc_livekit_settings settings;
  char host[URL_MAX]; // "https://livekit.example", no '/' behind it
  char ours[URL_MAX]; // "rtmp://media.example:1937/live/"
  struct vc_stage *stage;
  struct vc_shared_putter *putter;
  struct vc_slots *door; // of whoever brings webhooks
  /* any thread, under the mutex */
  pthread_mutex_t mutex;
  int is_stopping;
  struct vc_log_limit refusals;
  /* the worker's */
  struct vc_worker *worker;
  struct vc_client *client;
  struct vc_slots *slots;
  struct meeting *meetings;
  struct event *events;
  struct poll poll;
  uint32_t n_calls, n_failing;
};

// --- call.c
enum method { LIST_ROOMS, LIST_EGRESS, START_EGRESS, STOP_EGRESS };
// `text` is taken. Returns: 0, or -1 it could not be begun: `done` is not called.
int call_start(struct vc_livekit *livekit, struct vc_post **post, enum method method,
               struct vc_text *text, void (*done)(void *context, const struct vc_post_answer *),
               void *context);
void call_cancel(struct vc_livekit *livekit, struct vc_post **post);
// First thing in `done`. Returns: 0 it was answered well; else -1 and the reason: what LiveKit says
// of itself, or "unreachable".
int call_end(struct vc_livekit *livekit, struct vc_post **post, const struct vc_post_answer *answer,
             char reason[REASON_MAX]);
// Of an answer that call_end did not like: there is no such room, or no such egress; or, as an
// egress is to be stopped, it ends already.
int call_says_not_found(const struct vc_post_answer *answer);
int call_says_ended(const struct vc_post_answer *answer);

// --- meeting.c
// A meeting that is on (`on_ns`, 0: it may be over by now) is looked at in `in_ms`.
void meeting_wake(struct vc_livekit *livekit, const struct vc_livekit_room *room, uint64_t on_ns,
                  uint64_t in_ms);
struct meeting *meeting_find(struct vc_livekit *livekit, const char *name); // may be NULL
void meeting_forget(struct meeting *meeting);
void meetings_tick(struct vc_livekit *livekit);

// --- poll.c
void poll_init(struct vc_livekit *livekit);
void poll_tick(struct vc_livekit *livekit);
void poll_fini(struct vc_livekit *livekit);

// --- room.c
uint64_t room_now(const struct vc_livekit *livekit);
// Waits, for a second at most.
enum vc_livekit_claim room_claim(struct vc_livekit *livekit, const char *key, int64_t ttl_ms);
void room_count(struct vc_livekit *livekit, size_t metric);
// What was called failed, and does again until room_is_well.
void room_is_ill(struct vc_livekit *livekit, int *is_failing, const char *reason);
void room_is_well(struct vc_livekit *livekit, int *is_failing);
int room_starts_egresses(const struct vc_livekit *livekit);
