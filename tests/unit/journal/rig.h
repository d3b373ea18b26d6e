// A journal in a folder of its own, what is put into it, and a sink that keeps what it is given.
#pragma once

#include <pthread.h>

#include <verbacast/base/metrics.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/journal.h>

#include "store_rig.h"

struct rig {
  struct folder folder;
  char path[256];
  struct vc_journal_options options;
  size_t pending_max_bytes; // 0: the journal's own
  uint32_t sink_most;
  int is_past_disk;
  const char *erased_by;
  uint32_t idle_ms;
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_journal *journal; // NULL between two lives
  struct vc_putter *putter;
  struct vc_shared_putter *asker;
  int log_fd, stderr_fd; // while the log is kept
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  char **kept; // what the sink was given, in order
  enum vc_record_kind last_kind;
  const char *hopeless; // rows that hold this text are; NULL: none
  size_t n_kept, n_batches;
  size_t n_empty; // of the batches
  size_t n_refused;
  size_t n_unnamed; // rows that did not say whose they are
  int is_refusing;  // the sink takes nothing
  int n_takes;      // but so many batches all the same
  int is_hanging;   // the sink does not return
  int is_waiting;   // and somebody is in it
};

void rig_init(struct rig *rig);
void rig_fini(struct rig *rig);

// Both assert that it works. A life may be followed by another on the same file.
void rig_start(struct rig *rig);
void rig_create(struct rig *rig); // without the start
// Returns: what vc_journal_stop says.
size_t rig_stop(struct rig *rig, uint32_t flush_ms);

void rig_hang(struct rig *rig); // until it is to refuse or to accept
void rig_refuse(struct rig *rig);
void rig_accept(struct rig *rig);
void rig_take(struct rig *rig, int n_batches); // more, while it refuses

// Puts, and waits while the lane is full. A final's text says where it stands.
void rig_put(struct rig *rig, enum vc_record_kind kind, const char *slug, int64_t epoch,
             uint64_t seq, char *value);
void rig_final(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq);
void rig_begin(struct rig *rig, const char *slug, int64_t epoch);
void rig_end(struct rig *rig, const char *slug, int64_t epoch);
// Returns: the answer's status.
int rig_erase(struct rig *rig, const char *slug, int64_t epoch);
// What is on its way of a slug. Returns: an answered query, for vc_query_unref.
struct vc_query *rig_unrelayed(struct rig *rig, const char *slug);

// What is logged between the two goes into a file of the folder. Returns: its descriptor, good
// until rig_log_end, which gives all that stands in it, good until the next call.
int rig_log_begin(struct rig *rig);
const char *rig_log_end(struct rig *rig);

uint64_t rig_metric(struct rig *rig, const char *name);
// Wait until it is so, at most RIG_PATIENCE_MS.
#define RIG_PATIENCE_MS 60000
void rig_wait_metric(struct rig *rig, const char *name, uint64_t value);
void rig_wait_kept(struct rig *rig, size_t n);
void rig_wait_hanging(struct rig *rig);
void rig_wait_refused(struct rig *rig); // once more than until now
// Copies the reason. Returns: 1 when the condition stands.
int rig_is_degraded(struct rig *rig, const char *what, char reason[128]);
void rig_wait_degraded(struct rig *rig, const char *what, int wanted);
void rig_pause(void); // between two looks

// Returns: how often the sink was given a final; a session's end with that reason.
size_t rig_n_finals(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq);
size_t rig_n_ends(struct rig *rig, const char *slug, int64_t epoch, const char *reason);
