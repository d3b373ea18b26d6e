// A chunk: up to PCM_CHUNK_SIZE_MS of PCM16 little-endian, 16 kHz, mono, from decode to stt; or a
// turn in the session's life (OPEN, LOST, BACK, CLOSE).
#pragma once

#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/flow/packet.h>

#define VC_SAMPLE_RATE_HZ 16000

struct vc_chunk {
  struct vc_item item;
  struct vc_session *session;
  enum vc_turn turn;
  enum vc_close_reason reason;
  uint64_t
      first_sample; // DATA: position on the session's audio clock (counts from 0 over gaps too)
  uint32_t n_samples;
  uint64_t arrival_ns;   // of the packet that held its last sample (0: made silence)
  struct vc_buffer *pcm; // n_samples * 2 bytes
};

struct vc_chunk *vc_chunk_create(struct vc_session *session, enum vc_turn turn);
void vc_chunk_destroy(struct vc_chunk **chunk);
