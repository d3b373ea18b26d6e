// The room on stages that are turned by hand: packets in, and what the stt stage would be given.
#pragma once

#include <verbacast/base/metrics.h>
#include <verbacast/decode.h>
#include <verbacast/flow/chunk.h>
#include <verbacast/flow/packet.h>

#include "sound.h"

#define RIG_SESSIONS 2
#define RIG_STORY_MAX 16384
#define RIG_RATE_HZ 16000 // of exact_sound: no resampler stands between
#define RIG_FRAME_MS 64   // of exact_sound: 1024 samples
#define RIG_FRAME 1024
#define RIG_CHUNK 800 // samples
#define RIG_ALL_CHANNELS UINT32_MAX
#define RIG_NO_CHANNEL (UINT32_MAX - 1)

// All that came out for one session. It is held against itself as it comes: no chunk is larger
// than it may be, none overlaps another.
struct heard {
  // One letter each: O open, L lost, B back, C close, D a whole chunk, s a short one, z silence
  // that was made.
  char story[RIG_STORY_MAX];
  size_t n_story;
  int16_t *samples; // without what was jumped over
  size_t n_samples, capacity;
  uint64_t position; // on the audio clock, where the last chunk ended
  uint64_t n_jumped; // samples missing between chunks
  int n_jumps;
};

struct rig {
  struct vc_clock clock;
  uint64_t now_ns;
  struct vc_decode_options options;
  struct vc_metrics *metrics;
  struct vc_stage *stt, *decode;
  struct vc_putter *putter;
  struct vc_session *sessions[RIG_SESSIONS];
  struct heard heard[RIG_SESSIONS];
  int is_discontinuity; // of the next packet
};

void rig_start(struct rig *rig, int64_t flush_interval_ms);
void rig_stop(struct rig *rig);

// Each puts a packet as of now and turns the stage.
void rig_say(struct rig *rig, int session, enum vc_turn turn);
void rig_configure(struct rig *rig, int session, enum vc_codec codec, const uint8_t *config,
                   size_t size);
void rig_send(struct rig *rig, int session, enum vc_codec codec, const struct sound_frame *frame,
              uint32_t timestamp_ms);
// One packet of PCM, `ms` long, of a tone of that rate and so many channels.
void rig_send_pcm(struct rig *rig, int session, uint32_t rate_hz, uint32_t channels, uint32_t ms);
// The same with the tone in one of them, the others silent.
void rig_send_pcm_of(struct rig *rig, int session, uint32_t rate_hz, uint32_t channels,
                     uint32_t channel, uint32_t ms);
// OPEN and the configuration of the sound, AAC.
void rig_open(struct rig *rig, int session, const struct sound *sound);
// Sends frames [from, to) of the sound each at its time; the first one has `timestamp_ms`.
void rig_play(struct rig *rig, int session, enum vc_codec codec, const struct sound *sound,
              int from, int to, uint32_t timestamp_ms);
// Time passes as for a worker that sleeps: it turns when it asked to be woken, and not otherwise.
void rig_pass(struct rig *rig, uint64_t ns);
void rig_pass_ms(struct rig *rig, uint64_t ms);
// Takes what lies at the stt stage; the others do so too.
void rig_hear(struct rig *rig);

uint64_t rig_counter(struct rig *rig, const char *name);
// How often the letter stands in the session's story.
size_t rig_count(const struct rig *rig, int session, char letter);

// AAC of 16 kHz mono, `n` frames of RIG_FRAME samples.
void rig_exact_sound(struct sound *sound, int n);
