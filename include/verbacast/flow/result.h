// A result: what stt has to say of a session, to the ledger.
#pragma once

#include <stdint.h>

#include <verbacast/flow/packet.h>
#include <verbacast/wire/utterance.h>

enum vc_result_kind {
  VC_RESULT_OPEN,      // the session begins
  VC_RESULT_UTTERANCE, // partial or final
  VC_RESULT_RETRACT,   // the partial `utterance_id` will get no final
  VC_RESULT_STATE,     // live, reconnecting or stt_down, with a reason
  VC_RESULT_CLOSE,     // the session is over; all its finals came before
};

enum vc_state {
  VC_STATE_IDLE,
  VC_STATE_LIVE,
  VC_STATE_RECONNECTING,
  VC_STATE_STT_DOWN,
  VC_STATE_ENDED,
  VC_STATE_UNKNOWN,
};
const char *vc_state_text(enum vc_state state);

struct vc_result {
  struct vc_item item;
  struct vc_session *session;
  enum vc_result_kind kind;
  uint32_t stt_ordinal;           // of the STT session within this vc_session, from 1
  struct vc_utterance *utterance; // UTTERANCE: owned; times re-based to the session's audio clock
  char utterance_id[64];          // RETRACT: the provider's id
  int channel;                    // RETRACT
  enum vc_state state;            // STATE
  char reason[96];                // STATE: "" none
  enum vc_close_reason close_reason;
  uint64_t received_ns; // when its message was read off the STT's socket
  int64_t received_unix_us;
};

struct vc_result *vc_result_create(struct vc_session *session, enum vc_result_kind kind);
void vc_result_destroy(struct vc_result **result);
