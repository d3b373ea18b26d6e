// The room between publishers on the loopback that the test plays and a decode stage whose inbox
// the test empties. It turns when the test says so, and so does its clock.
#pragma once

#include <verbacast/flow/packet.h>
#include <verbacast/flow/query.h>
#include <verbacast/ingest.h>

#include <rtmp.h>

#include "../ledger/hand_stage.h"

#define RIG_TAKEN_MAX 4096
#define RIG_EXPIRED_MS 5000 // Unix time; the clock begins at 1000 s
#define RIG_PATIENCE 5000   // turns of at most 1 ms until a condition must hold

struct taken {
  enum vc_turn turn;
  enum vc_codec codec;
  enum vc_close_reason reason;
  int is_discontinuity;
  uint64_t session_id;
  uint32_t timestamp_ms;
  size_t size;
  uint8_t first, last; // byte of the data
  uint32_t rate_hz, channels;
  uint64_t arrival_ns, first_audio_ns;
  char slug[VC_SLUG_MAX + 1];
  char participant[VC_PARTICIPANT_MAX + 1];
};

struct rig {
  struct vc_ingest_options options;
  uint32_t n_workers;
  const char *refusal;  // what the gate says
  const char *password; // what a query must be; NULL: anything
  const char *expired;  // or this, if the session began before RIG_EXPIRED_MS; NULL: none such
  int has_fleet;        // other nodes can be asked
  struct vc_clock clock;
  uint64_t now_ns;
  struct vc_metrics *metrics;
  struct vc_stage *ingest, *decode;
  struct vc_stage *fleet; // what is asked of other nodes lies in its inbox, of one worker
  struct vc_shared_putter *to_fleet, *back;
  struct vc_limits *limits;
  struct vc_ingest_door *door;
  struct vc_putter *asker;
  struct vc_address bound;
  struct publisher *publishers;
  struct taken taken[RIG_TAKEN_MAX]; // since the last rig_forget
  size_t n_taken;
};

struct publisher {
  struct rig *rig;
  int fd;
  const char *flash_version; // tells one publisher from another
  int reads;                 // 0: what comes stays in the socket
  int is_closed;             // by the server
  int was_reset;             // and not as it should be
  size_t n_handshake;        // bytes of S0, S1 and S2 that came
  struct rtmp_bytes rest;
  struct rtmp_reader reader;
  char code[64];  // of the last onStatus or connect's answer
  char level[16]; // "status", "error"
  int n_answers;  // _result and _error
  int n_pongs, n_acknowledgements;
  struct publisher *prev, *next; // in rig.publishers
};

// The options may be changed between the two.
void rig_init(struct rig *rig);
void rig_start(struct rig *rig);
void rig_stop(struct rig *rig); // its publishers too
void rig_turn(struct rig *rig);
void rig_pass(struct rig *rig, uint64_t ms); // time, and a turn
void rig_forget(struct rig *rig);            // what was taken
uint64_t rig_counter(struct rig *rig, const char *name);
// The packet of that number since the last rig_forget. Fails when it is of another turn.
const struct taken *rig_taken(struct rig *rig, size_t index, enum vc_turn turn);

// What control asks. Gives the query, answered.
struct vc_query *rig_ask(struct rig *rig, enum vc_query_kind kind, const char *slug,
                         const char *participant);

// Turns until the condition holds; fails when it does not in time.
#define AWAIT(rig, condition)                                                                      \
  do {                                                                                             \
    for (int n_tries = 0; !(condition) && n_tries < RIG_PATIENCE; n_tries++) {                     \
      rig_turn(rig);                                                                               \
    }                                                                                              \
    assert_true(condition);                                                                        \
  } while (0)
#define AWAIT_COUNTER(rig, name, value) AWAIT(rig, rig_counter(rig, name) == (value))
#define AWAIT_CODE(publisher, text) AWAIT((publisher)->rig, strcmp((publisher)->code, text) == 0)

// A publisher, step by step: each gives its bytes to the server and does not wait for an answer.
void publisher_open(struct publisher *publisher, struct rig *rig, const char *flash_version);
void publisher_close(struct publisher *publisher); // the socket, without a word
void publisher_read(struct publisher *publisher);  // what the server says; at every turn
void publisher_write(struct publisher *publisher, const void *bytes, size_t size);
void publisher_shake_hands(struct publisher *publisher);
void publisher_connect(struct publisher *publisher, const char *app);
void publisher_publish(struct publisher *publisher, const char *name);
void publisher_say(struct publisher *publisher, const char *command);
void publisher_ping(struct publisher *publisher);
// One audio message: `control` is the tag's first bytes, behind them `size` bytes of `fill`.
void publisher_send_audio(struct publisher *publisher, uint32_t timestamp_ms, const char *control,
                          uint8_t fill, size_t size);
void publisher_send_frame(struct publisher *publisher, uint32_t timestamp_ms); // AAC
// All of it, up to an answer to `publish`.
void publisher_start(struct publisher *publisher, struct rig *rig, const char *flash_version,
                     const char *name);
