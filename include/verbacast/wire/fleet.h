// What nodes say to each other through Redis: JSON, one object a message. Pure. What comes in was
// written by anybody who can reach that Redis: everything of it is checked, and a complaint names
// the member, its value and what is allowed. docs/fleet.md is the design.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <verbacast/base/error.h>
#include <verbacast/wire/text.h>

#define VC_ENVELOPE_VERSION 1
#define VC_ENVELOPE_MAX ((size_t)1024 * 1024) // bytes; longer ones are refused unread
#define VC_NODE_MAX 95                        // bytes of a node's name, without the NUL
#define VC_EPOCH_MAX (INT64_C(1) << 52)       // Unix ms that no clock has: larger ones are nobody's

// The conditions of what is read; with each the error says what is wrong.
#define VC_FLEET_NEWER 1     // of a version or type that this program does not know: to be ignored
#define VC_FLEET_NO_MEMORY 2 // says nothing of what was read

// --- a message on its way: in the stream of a session, and on its channel

struct vc_envelope {
  const char *node; // its owner's
  int64_t epoch;
  uint64_t seq;           // 0: the hello that begins the epoch
  uint64_t prev_final;    // of the kept message before it in its epoch, 0: none but the hello
  int64_t started_at_ms;  // Unix time at which the session began
  int64_t received_at_us; // Unix time of the result that it came from, 0: none
  int is_after_loss;      // a hello: what the epoch before said last may never be here
  const char *frame;      // the JSON that viewers are sent, not NUL-terminated
  size_t frame_size;
};

// {"v":1,"node","epoch","seq","prevFinal","startedAt","receivedAt","frame"}: times are seconds with
// three digits, receivedAt is null for none; the frame stands last, byte for byte. Before it
// "afterLoss":true, where that is so.
void vc_envelope_print(struct vc_text *text, const struct vc_envelope *envelope);

enum vc_envelope_kind {
  VC_ENVELOPE_HELLO,
  VC_ENVELOPE_PARTIAL,
  VC_ENVELOPE_FINAL,
  VC_ENVELOPE_RETRACT,
  VC_ENVELOPE_STATUS,
  VC_ENVELOPE_END,
};

struct vc_envelope_parsed {
  enum vc_envelope_kind kind;
  struct vc_envelope fields; // the frame lies in the text that was parsed, the node in `root`
  const char *utterance_id;  // PARTIAL, FINAL, RETRACT, else ""
  const char *state;         // HELLO, STATUS, else ""
  const char *reason;        // HELLO, STATUS, END; "" none
  const json_t *json;        // the frame
  json_t *root;
};

// A message of `slug`: that its frame is of that session, and of the epoch and seq of the envelope,
// is checked. A hello has the seq 0, whatever number its frame tells.
// Returns: 0; VC_FLEET_NEWER, VC_FLEET_NO_MEMORY; or -1: it is no message. `error` may be NULL.
int vc_envelope_parse(const char *text, size_t size, const char *slug,
                      struct vc_envelope_parsed *envelope, struct vc_error *error);
void vc_envelope_parsed_fini(struct vc_envelope_parsed *envelope);
// Kept messages lie in the stream: hello, final, status, end.
int vc_envelope_is_kept(enum vc_envelope_kind kind);
// The record (docs/schemas) that its owner made of a FINAL, byte for byte. Returns: 0, or -1 no
// memory.
int vc_envelope_print_record(struct vc_text *text, const struct vc_envelope_parsed *envelope);

// The id of a kept message in the stream: "EPOCH-SEQ". Returns: 0, or -1: it is none.
int vc_envelope_parse_id(const char *id, size_t size, int64_t *epoch, uint64_t *seq);

// --- what owners say to each other

enum vc_ctl_type {
  VC_CTL_TAKE,     // `node` has claimed the slug and will number from `epoch`
  VC_CTL_RELEASED, // `node` has said its last of `epoch`
  VC_CTL_LEAVING,  // `node` has heard of the claim and says its last of `epoch` now
  VC_CTL_END,      // whoever owns the slug is to end it
  VC_CTL_ERASED,   // what there was up to `epoch` is to be forgotten
};

struct vc_ctl {
  enum vc_ctl_type type;
  char node[VC_NODE_MAX + 1];
  int64_t epoch; // 0: none
};
void vc_ctl_print(struct vc_text *text, enum vc_ctl_type type, const char *node, int64_t epoch);
// Returns: as vc_envelope_parse.
int vc_ctl_parse(const char *text, size_t size, struct vc_ctl *ctl, struct vc_error *error);

// --- whose a slug is: the value of its key

struct vc_owner {
  char node[VC_NODE_MAX + 1];
  int64_t epoch;
};
void vc_owner_print(struct vc_text *text, const char *node, int64_t epoch);
// Returns: as vc_envelope_parse.
int vc_owner_parse(const char *text, size_t size, struct vc_owner *owner, struct vc_error *error);
