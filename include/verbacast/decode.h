// decode: compressed frames in, PCM16 16 kHz mono in chunks out. The only room with FFmpeg.
//
// Takes packets (flow/packet.h), gives chunks (flow/chunk.h) to the stt stage, worker by the
// session's hash. A session's audio clock counts samples from its first one; what the publisher
// left out becomes silence (at most VC_DECODE_SILENCE_MAX_S at once), so that times stay true. A
// corrupt frame is passed over and counted; it never ends the session. Raw PCM has no timestamps:
// its samples are counted while they come, and the arrivals tell how long a hole was, which a burst
// behind it may still fill; of what is a hole then at most 2 s are silence, over the rest the clock
// jumps (src/decode/arrivals.h has the rule).
//
// Full: while the stt lane is full chunks wait in a list of the session; beyond VC_DECODE_WAIT_MAX
// the oldest sound is dropped and counted. Turns (open, close, …) are never dropped.
#pragma once

#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/stage.h>

#define VC_DECODE_SILENCE_MAX_S 60
#define VC_DECODE_WAIT_MAX 4096 // chunks

struct vc_decode_options {
  int64_t pcm_chunk_size_ms;
  int64_t flush_interval_ms;
  int64_t decode_threads; // 0: by cores
};
extern const struct vc_option vc_decode_option_rows[];
extern const struct vc_metric vc_decode_metrics[];

struct vc_decode_settings {
  const struct vc_decode_options *options; // lives as long as the stage
  struct vc_stage *stt;                    // where chunks go
  uint32_t n_workers;
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
};

int vc_decode_create(struct vc_stage **stage, const struct vc_decode_settings *settings,
                     struct vc_error *error);
