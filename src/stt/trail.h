// What an STT session has heard: its stream, as the provider counts it, against the session's audio
// clock; and the frames of the connection that it has not acknowledged.
//
// A stream goes on over connections. After a drop everything unacknowledged is sent again, so the
// stream holds some audio twice: the first acknowledgment of a connection says where in the stream
// it began, and so how much. What was heard twice is known from then on and told once.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TRAIL_SPANS_MAX 64  // beyond, the oldest goes
#define TRAIL_SENT_MAX 4096 // frames; beyond, the oldest is taken for acknowledged

struct trail_span {
  uint64_t stream;   // from this sample of the stream on
  uint64_t audio;    // this sample of the session's clock, and so on
  uint64_t heard_to; // audio before this was heard (or told) earlier
};

struct trail_frame {
  uint64_t audio;
  uint32_t n;
};

struct trail {
  struct trail_span spans[TRAIL_SPANS_MAX];
  size_t n_spans;
  uint64_t end;          // of the stream
  uint64_t heard;        // audio before this was heard
  int is_placed;         // it is known where in the stream this connection began
  uint64_t acknowledged; // of the stream
  // What connections sent that ended before their place was known: it may or may not be in the
  // stream; it is taken to be, as audio that came twice.
  uint64_t lost_audio;
  uint64_t n_lost;
  struct trail_frame *frames; // sent on this connection and not acknowledged, a ring
  size_t capacity, first, n_frames;
};

// A new STT session, for which audio before told_to is told already.
void stt_trail_begin(struct trail *trail, uint64_t told_to);
// A new connection of the same STT session.
void stt_trail_reconnect(struct trail *trail);
void stt_trail_fini(struct trail *trail);
// n samples of audio were sent. Returns 0, or -1 without memory (nothing is noted; send it not).
int stt_trail_reserve(struct trail *trail);
void stt_trail_sent(struct trail *trail, uint64_t audio, uint32_t n); // after a trail_reserve
// An acknowledgment of the stream's samples [begin, end).
void stt_trail_acknowledge(struct trail *trail, uint64_t begin, uint64_t end);
void stt_trail_drop_oldest(struct trail *trail);
// Returns: the first audio that is not acknowledged, or `otherwise` when all is.
uint64_t stt_trail_unacknowledged(const struct trail *trail, uint64_t otherwise);
// Where on the audio clock a place of the stream is (in samples, with a fraction) and up to where
// the audio of that part was heard before.
double stt_trail_find(const struct trail *trail, double stream, double *heard_to);
