// What an STT session was sent: its stream, as the provider counts it, against the session's audio
// clock; and the frames of the connection that it has not acknowledged.
//
// A stream goes on over connections. After a drop everything unacknowledged is sent again, so the
// stream holds some audio twice: the first acknowledgment of a connection says where in the stream
// it began, and so how much. Which parts of the stream are sound that was sent before is known from
// then on; whether that was told, too, is told.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TRAIL_SPANS_MAX 64  // beyond, the oldest goes
#define TRAIL_SENT_MAX 4096 // frames; beyond, the oldest is taken for acknowledged

struct trail_span {
  uint64_t stream;  // from this sample of the stream on
  uint64_t audio;   // this sample of the session's clock, and so on
  uint64_t sent_to; // audio before this was sent earlier
};

struct trail_frame {
  uint64_t audio;
  uint32_t n;
};

struct trail {
  struct trail_span spans[TRAIL_SPANS_MAX];
  size_t n_spans;
  uint64_t end;          // of the stream
  uint64_t sent;         // audio before this was sent, by connections whose place is known
  int is_placed;         // it is known where in the stream this connection began
  uint64_t acknowledged; // of the stream
  // What connections sent that ended before their place was known: it may or may not be in the
  // stream; it is taken to be, as audio that came twice.
  uint64_t lost_audio;
  uint64_t n_lost;
  struct trail_frame *frames; // sent on this connection and not acknowledged, a ring
  size_t capacity, first, n_frames;
};

// A new STT session; audio before sent_to was sent to the ones before it.
void stt_trail_begin(struct trail *trail, uint64_t sent_to);
// A new connection of the same STT session.
void stt_trail_reconnect(struct trail *trail);
void stt_trail_fini(struct trail *trail);
// n samples of audio were sent. Returns 0, or -1 without memory (nothing is noted; send it not).
int stt_trail_reserve(struct trail *trail);
void stt_trail_sent(struct trail *trail, uint64_t audio, uint32_t n); // after a trail_reserve
// An acknowledgment of the stream's samples [begin, end).
void stt_trail_acknowledge(struct trail *trail, uint64_t begin, uint64_t end);
void stt_trail_drop_oldest(struct trail *trail);
// Returns: the earliest audio that is not acknowledged, or `otherwise` when all is.
uint64_t stt_trail_unacknowledged(const struct trail *trail, uint64_t otherwise);
// Where on the audio clock a place of the stream is (in samples, with a fraction) and up to where
// audio was sent before that part.
double stt_trail_find(const struct trail *trail, double stream, double *sent_to);
