// A ledger between two inboxes that a test empties by hand, and words for what goes in and out.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/remote.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>
#include <verbacast/ledger.h>

#include "hand_stage.h"

#define RIG_UNIX_MS INT64_C(1790000000000) // when it begins: epoch e0

struct rig {
  uint64_t now_ns;
  int64_t unix_us;
  struct vc_clock clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_ledger_options options;
  struct vc_ledger_settings settings;
  struct vc_stage *broadcast, *journal, *ledger;
  struct vc_stage *partials;            // an inbox; the ledger has it only when a test says so
  struct vc_stage *publisher, *watcher; // inboxes likewise: of the redis room
  struct vc_putter *putter;             // into the ledger
  char taken_over[VC_SLUG_MAX + 1];     // by another node, as the ledger said last
  int says_after_loss;                  // other nodes, of the epochs that begin
  int64_t remote_started_ms;            // when their sessions began, 0: they do not say
  int n_taken_over;                     // times that it said so
  int is_ingest_full;                   // to which it says it
  uint64_t next_session, next_viewer;
  int64_t began_ms; // as the last that rig_expect saw says
};

// `change` may be NULL; it is called before the ledger is made.
struct rig *rig_create(void (*change)(struct rig *rig));
void rig_destroy(struct rig *rig);
void rig_pass_ms(struct rig *rig, uint64_t ms); // and turns
void rig_turn(struct rig *rig);
void rig_put(struct rig *rig, struct vc_item *item); // and turns
uint64_t rig_count(struct rig *rig, const char *metric);

// What stt says. The session is the caller's.
struct vc_session *rig_open(struct rig *rig, const char *slug);
struct vc_session *rig_open_of(struct rig *rig, const char *slug, const char *participant);
struct vc_session *rig_open_at(struct rig *rig, const char *slug, const char *participant,
                               uint64_t began_ns);
void rig_close(struct rig *rig, struct vc_session **session, enum vc_close_reason reason);
void rig_hear(struct rig *rig, struct vc_session *session, uint32_t ordinal,
              const struct vc_utterance *utterance);
void rig_partial(struct rig *rig, struct vc_session *session, const char *id, const char *text);
void rig_final(struct rig *rig, struct vc_session *session, const char *id, const char *text);
void rig_retract(struct rig *rig, struct vc_session *session, const char *id);
void rig_state(struct rig *rig, struct vc_session *session, enum vc_state state,
               const char *reason);

// What broadcast says, as worker 0 unless named. Returns: the viewer's id.
uint64_t rig_join(struct rig *rig, const char *slug);
uint64_t rig_join_since(struct rig *rig, const char *slug, uint32_t worker, int64_t epoch,
                        uint64_t seq);
void rig_catch_up(struct rig *rig, const char *slug, uint64_t viewer, int64_t epoch, uint64_t seq);
void rig_leave(struct rig *rig, const char *slug, uint32_t worker, uint64_t viewer);

// What control asks. Gives the query, answered.
struct vc_query *rig_ask(struct rig *rig, enum vc_query_kind kind, const char *slug);

// What came out at a worker of broadcast, as lines; they end with NULL:
//   "live hello e0#0 live"        a live message; "live! …" after a loss
//   "answer 1 last e0#4"          with the position from which it goes on live; "answer 1 more"
//   "- final e0#3 1-0-a Hello."   a message of that answer
// An epoch eN began N ms after RIG_UNIX_MS; "e-": none.
void rig_expect(struct rig *rig, uint32_t worker, ...);
void rig_skip(struct rig *rig, uint32_t worker); // whatever it is
// A message as such a line. `size` of `line` 256.
void rig_describe(const struct vc_message *message, char line[256]);
// What came out at the journal: "final demo e0#1", "started demo e0", "ended demo e0".
void rig_expect_records(struct rig *rig, ...);

// Other nodes. A change for rig_create: there is a redis room, played by the test.
void rig_with_fleet(struct rig *rig);
// What the redis room says of a slug: `epoch` and `seq` as the kind has them.
void rig_remote(struct rig *rig, enum vc_remote_kind kind, const char *slug, int64_t epoch,
                uint64_t seq);
// A claim is answered, without all that was said before. `epoch` 0: by nobody.
void rig_remote_owned_late(struct rig *rig, const char *slug, int64_t epoch);
// Others ended what was said here, with the number `seq`, and have it up to `theirs`.
void rig_remote_given_up(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq,
                         uint64_t theirs);
void rig_remote_gap(struct rig *rig, const char *slug, int64_t epoch, uint64_t from, uint64_t to);
// A message of another node. `text` of a final or partial, state of a hello or status, reason of an
// end.
void rig_remote_say(struct rig *rig, enum vc_message_kind kind, const char *slug, int64_t epoch,
                    uint64_t seq, const char *id, const char *text);
// What came out at the workers of the redis room:
//   "claim demo e-#0 floor e0", "watch demo e0#3", "unwatch demo", "release demo e0#3",
//   "release demo e0#3 unsaid", "message hello e5#0 live after loss",
//   "message final e0#3 1-0-a Hello.", "orphan end e0#4  owner_lost behind e0#3, says #3",
//   "history demo behind e0#1 last", "- final e0#3 1-0-a Hello."
void rig_expect_watcher(struct rig *rig, ...);
void rig_expect_publisher(struct rig *rig, ...);
