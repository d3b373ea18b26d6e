// A packet: one compressed audio frame, or a turn in a session's life, from ingest to decode.
// Owner: whoever holds it; a put moves it. It holds one reference of its session and of its data.
#pragma once

#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/flow/item.h>
#include <verbacast/flow/session.h>

// PCM_S16LE: whole samples of all channels, interleaved; its hints are no hints but what it is, and
// it has no CONFIG and no timestamps.
enum vc_codec { VC_CODEC_AAC, VC_CODEC_MP3, VC_CODEC_OPUS, VC_CODEC_PCM_S16LE };

enum vc_turn {
  VC_TURN_OPEN,   // the session begins; nothing came before it
  VC_TURN_DATA,   // sound
  VC_TURN_CONFIG, // packets only: data holds the AudioSpecificConfig or OpusHead of what follows
  VC_TURN_LOST,   // the publisher went away without a word; the session waits for it
  VC_TURN_BACK,   // a publisher (the same or its replacer) goes on; its timestamps may begin anew
  VC_TURN_MUTED,  // packets only, PCM: no sound is to be waited for, until some comes
  VC_TURN_CLOSE,  // the session is over, see reason; nothing comes after it
};

enum vc_close_reason {
  VC_CLOSE_PUBLISHER_LEFT, // "publisher_left"
  VC_CLOSE_SHUTDOWN,       // "shutdown"
  VC_CLOSE_KICKED,         // "kicked"
  VC_CLOSE_OWNER_LOST,     // "owner_lost"
  VC_CLOSE_TAKEN_OVER,     // "taken_over": another node publishes it now; viewers are told no end
};
const char *vc_close_reason_text(enum vc_close_reason reason);
// Whether others said so, of a node that they took for lost.
int vc_close_reason_is_owner_lost(const char *text);

struct vc_packet {
  struct vc_item item;
  struct vc_session *session;
  enum vc_turn turn;
  enum vc_codec codec;          // CONFIG, DATA
  enum vc_close_reason reason;  // CLOSE
  int is_discontinuity;         // DATA: packets were dropped before this one
  uint32_t sample_rate_hint_hz; // from the FLV tag, 0 unknown
  uint32_t channels_hint;
  uint32_t timestamp_ms;  // as the publisher counts, wraps at 2^32
  uint64_t arrival_ns;    // when the last byte of its message was read
  struct vc_buffer *data; // CONFIG, DATA
};

// Takes a new reference of the session. Returns NULL without memory.
struct vc_packet *vc_packet_create(struct vc_session *session, enum vc_turn turn);
void vc_packet_destroy(struct vc_packet **packet);
