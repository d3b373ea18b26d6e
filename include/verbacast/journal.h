// journal: what must outlive the node. The node's own outbox (SQLite, synchronous=FULL, locked
// against a second process) and the relay that empties it into the store.
//
//   ledger -- RECORD --> journal -- rows, by id --> relay --> sink (the store)
//
// One stage of one worker, whose thread may block: nobody waits for it. Records that came within
// JOURNAL_COMMIT_MS are one transaction; when its commit has returned they survive anything, which
// the log says at debug level: event=journal_committed session=… epoch=… seq=….
//
// Bounds: VC_JOURNAL_PENDING_MAX bytes of records that are not committed (disk full, disk slow);
// beyond, the oldest loses its durability: journal.lost_total, an error in the log. A sink that
// says so is given them meanwhile, behind all rows: event=journal_past_disk. At
// JOURNAL_MAX_BYTES of rows not relayed vc_journal_refusal tells the ingest to refuse new sessions.
// A file that others have locked is waited for at most VC_JOURNAL_WAIT_MS at a time.
#pragma once

#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/stage.h>

#define VC_JOURNAL_PENDING_MAX (64 * 1024 * 1024)
#define VC_JOURNAL_WAIT_MS 1000
#define VC_JOURNAL_ANSWER_MAX (16 * 1024 * 1024)

struct vc_journal_options {
  const char *journal_path;
  int64_t journal_commit_ms;
  int64_t journal_max_bytes;
};
extern const struct vc_option vc_journal_option_rows[];
extern const struct vc_metric vc_journal_metrics[];

struct vc_journal_row {
  int64_t id; // the same whenever the row is given again
  enum vc_record_kind kind;
  const char *key; // the session's slug
  int64_t epoch;
  const char *value; // a record's JSON
  size_t size;
  const char *hopeless; // set by the sink, a constant: why it will never take this row; else NULL
};
// Where the relay's rows go. Thread: the relay's. Returns: 0 they are kept there, those that are
// not hopeless, or -1: not all are yet, the same rows are given again later, or, when they were not
// of the file, never; the error says why.
// When `what` was degraded before the start it is called without rows until it returns 0.
struct vc_journal_sink {
  int (*write)(void *context, struct vc_journal_row *rows, size_t n_rows, struct vc_error *error);
  const char *what;        // the health condition while it fails: "database"
  uint32_t gather_ms;      // how long a batch gathers
  uint32_t most;           // rows in a batch, 0: 100
  uint32_t backoff_max_ms; // how long it is left alone when it has failed, 0: 5000
  uint32_t idle_ms;        // it is called without rows when there were none for so long, 0: never
  int is_past_disk;        // it takes what the disk does not, too
  const char *erased_by;   // NODE_ID: it is sent a record of each erasure; NULL: it is not
  void *context;
};

struct vc_journal_settings {
  const struct vc_journal_options *options; // lives as long as the journal
  struct vc_journal_sink sink;              // write NULL: rows are not wanted anywhere
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
  struct vc_health *health;   // may be NULL
  size_t pending_max_bytes;   // of what is not committed; 0: VC_JOURNAL_PENDING_MAX
};

struct vc_journal;

// Opens the outbox: a corrupt file is moved aside, sessions that a crash left open get their end,
// rows that it left are relayed. When the disk is full all that waits until there is room, and the
// health says "journal". Returns: 0, or -1: another process has it, it cannot be written.
int vc_journal_create(struct vc_journal **journal, const struct vc_journal_settings *settings,
                      struct vc_error *error);
struct vc_stage *vc_journal_stage(struct vc_journal *journal);
// Starts stage and relay.
int vc_journal_start(struct vc_journal *journal, struct vc_error *error);
// Commits what came within flush_ms, lets the relay go on for as long again; the rest stays for the
// next start. Locked files may hold each of the two up, and the last deletion, for their own wait.
// Returns: records that could not be committed.
size_t vc_journal_stop(struct vc_journal *journal, uint32_t flush_ms);
void vc_journal_destroy(struct vc_journal **journal);

// Thread: any. Returns: the highest epoch of all that the file took before this life, 0 none, or
// the disk is too full to say.
int64_t vc_journal_highest_epoch(const struct vc_journal *journal);
// Thread: any. Returns: 1 while the relay has been at one call of the disk or the sink for longer
// than silent_ms. One that waits for a sink that is away is not.
int vc_journal_is_relay_stuck(const struct vc_journal *journal, uint32_t silent_ms);
// Thread: any. Returns: why new sessions should be refused (a constant), or NULL.
const char *vc_journal_refusal(const struct vc_journal *journal);
// The stage answers VC_QUERY_ERASE (its number: an epoch): rows of the slug up to that epoch go,
// and a sink that wants it is told of it, in one transaction.
// And VC_QUERY_UNRELAYED: the slug's records that wait here, the oldest first, the first
// VC_JOURNAL_ANSWER_MAX bytes of them (incomplete when there are more); 404 none, 503 it cannot be
// read.
