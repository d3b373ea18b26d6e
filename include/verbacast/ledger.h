// The ledger: what was heard becomes messages that are numbered, in order and none twice; it keeps
// their history and answers those who come late.
//
//   stt -- RESULT --> ledger -- LIVE, ANSWER --> broadcast -- JOIN, CATCH_UP, LEAVE --> ledger
//                     ledger -- RECORD --> journal            control -- QUERY --> ledger
//                     ledger -- RECORD (PARTIAL) --> kafka: what its lane does not take is dropped
//                     ledger -- FLEET --> redis -- REMOTE --> ledger: sessions of other nodes
//
// A session is a slug with all its publishings. Those that are on at the same time (flow/session.h)
// share one epoch of numbers, which begins with the first of them and ends with the last: their
// utterances are told apart by the speaker, their times count from the first sound of any, and the
// session's state is that of the one that is best off. A session is held while somebody publishes
// or watches, and SESSION_KEEP_MS after its end. Everything of a slug is put to
// worker `vc_slug_hash(slug) % vc_stage_n_workers(ledger)`.
//
// Bounds: MAX_SESSIONS sessions (a publisher is never refused: it takes the place of the oldest
// ended session that nobody watches, else it comes on top, so that there are at most MAX_PUBLISHERS
// more); 64 epochs of a slug; VC_PARTICIPANTS_MAX + 1
// publishings of a slug at once (ingest sees to it); 32 open utterances of a publishing (the oldest
// is retracted);
// HISTORY_FINALS finals of a slug and as many again of what else is numbered and kept;
// HISTORY_MAX_BYTES for all (ended sessions give way first, oldest first, then the oldest finals of
// the largest); MAX_VIEWERS requests that wait for room in broadcast's lane; 64 MiB of records that
// wait for room in the journal's lane (beyond, the oldest loses its durability); 1024 results of a
// session that wait for its claim, 3 s at most (then it is numbered without); MAX_VIEWERS joins
// that wait for what Redis holds of their session, 300 ms at most.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>

struct vc_ledger_options {
  int64_t dedup_window;
  int64_t history_finals;
  int64_t history_on_join;
  int64_t history_max_bytes;
  int64_t session_keep_ms;
  int64_t max_sessions;
};
// Rows whose offsets are of struct vc_ledger_options.
extern const struct vc_option vc_ledger_option_rows[];
extern const struct vc_metric vc_ledger_metrics[];

struct vc_ledger_settings {
  const struct vc_ledger_options *options; // lives as long as the stage
  uint32_t n_workers;   // 0: one; the bounds of all sessions together are shared out among them
  size_t lane_capacity; // of each putter, 0: 4096
  uint32_t max_viewers; // of the node
  const char *node;     // NODE_ID
  struct vc_stage *broadcast;
  struct vc_stage *journal;  // NULL: nothing is kept; records go to worker hash % n
  struct vc_stage *partials; // takes RECORDs of kind PARTIAL, in worker 0; NULL: nobody does
  // Both take FLEETs, in worker 0, and put REMOTEs (flow/remote.h); NULL: there are no other nodes.
  struct vc_stage *publisher, *watcher;
  int64_t session_resume_ms; // a session that nobody owns is over after that
  const struct vc_clock *clock;
  struct vc_metrics *metrics;   // may be NULL
  struct vc_health *health;     // may be NULL
  _Atomic uint32_t *n_sessions; // relaxed: how many it holds now, for others to read; may be NULL
  // An epoch of `slug` that was in use elsewhere or before this node's start, 0: none is known. New
  // epochs are larger. Called on the ledger's thread: must not block. May be NULL.
  int64_t (*epoch_floor)(void *context, const char *slug);
  // Another node publishes `slug` now: close its publisher here. Called on the ledger's thread:
  // must not block. Returns: 0, or 1: there is no room now, ask again. May be NULL.
  int (*take_over)(void *context, const char *slug);
  void *context;
};

// Makes the stage; it is started and stopped by the caller. All that `settings` points to must
// live as long as the stage. When it drains it ends what is still live with "shutdown" and
// waits until the journal's and broadcast's lanes took everything.
int vc_ledger_create(struct vc_stage **stage, const struct vc_ledger_settings *settings,
                     struct vc_error *error);
