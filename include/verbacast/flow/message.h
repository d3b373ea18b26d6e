// A message: one numbered thing that a session says to its viewers, framed once. Refcounted and
// immutable; made by the ledger only.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/flow/item.h>
#include <verbacast/flow/session.h>

#define VC_UTTERANCE_ID_SIZE 160 // ordinal, channel or participant, provider's id, and the NUL

enum vc_message_kind {
  VC_MESSAGE_HELLO, // not numbered: seq is the last one given out
  VC_MESSAGE_PARTIAL,
  VC_MESSAGE_FINAL,
  VC_MESSAGE_RETRACT,
  VC_MESSAGE_STATUS,
  VC_MESSAGE_GAP, // made for one viewer; epoch and seq are the position it moves the viewer to
  VC_MESSAGE_END,
};

struct vc_message {
  _Atomic uint32_t n_refs;
  _Atomic uint8_t is_begun; // relaxed: who comes first measures, nothing else hangs on it
  enum vc_message_kind kind;
  char slug[VC_SLUG_MAX + 1];
  int64_t epoch;
  uint64_t seq;
  uint64_t prev_final;     // seq of the final, status or end before this message, 0: none
  int is_after_loss;       // HELLO: what the epoch before said last may be with its node only
  uint64_t utterance_hash; // PARTIAL, FINAL, RETRACT: equal for equal utterance ids
  uint64_t received_ns;    // of the result it came from, 0: none
  int64_t received_unix_us;
  char utterance_id[VC_UTTERANCE_ID_SIZE];
  struct vc_buffer *record; // FINAL: its JSON of docs/schemas, for transcript.*; else NULL
  struct vc_buffer *frame;  // a whole unmasked WebSocket text frame
  uint32_t json_offset;     // of the JSON text within the frame
};

struct vc_message *vc_message_create(enum vc_message_kind kind, const char *slug);
struct vc_message *vc_message_ref(struct vc_message *message);
void vc_message_unref(struct vc_message *message);
// Thread: any. A worker of broadcast begins to send it. Returns: 1 to the first that says so.
int vc_message_begin(struct vc_message *message);
// Returns: 1 for what an epoch keeps and prev_final tells of: finals, statuses, end.
int vc_message_is_kept(const struct vc_message *message);
