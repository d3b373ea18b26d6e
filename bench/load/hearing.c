// Which message completes a piece is found in the sound itself. The audio carries loud marks, one
// every MARK_PERIOD_S: where they are heard says how much of the beginning a system lost (ffmpeg
// joins a stream late), but for whole periods, which the time of the first piece decides. What is
// left is the resampler's delay, below MARGIN_MS: of the messages that it leaves open, the latest
// is taken that was sent before its sound arrived.
//
// A piece that is shorter than a chunk was not completed by a message but by time: it went out
// because nothing came for a while. Those are counted, and not part of the latency.
#include <math.h>
#include <string.h>

#include "bench.h"

#define RATE_HZ 16000.0
#define MARK_PERIOD_S 3.0
#define MARGIN_MS 3.0
#define MARGIN_STEPS 150

static double first_mark_s(const struct sound *sound)
{
  // 1.5 s into the file, behind the encoder's own delay.
  return 1.5 + (double)sound->delay_samples / sound->sample_rate_hz;
}

// Returns: seconds of the beginning that were not heard, by the median of the marks.
static double lost_s(const struct hearing *hearing)
{
  const struct heard *heard = hearing->heard;
  const struct sound *sound = hearing->sound;
  struct samples offsets = {0};
  for (size_t i = 0; i < heard->n_marks; i++) {
    double offset = fmod(first_mark_s(sound) - (double)heard->marks[i] / RATE_HZ, MARK_PERIOD_S);
    // Not lost is near 0 or near the period; the marks themselves are found to a few ms.
    samples_add(&offsets, offset < -0.1 ? offset + MARK_PERIOD_S : offset);
  }
  samples_sort(&offsets);
  double offset = samples_part(&offsets, 0.5);
  samples_fini(&offsets);
  offset = isnan(offset) || fabs(offset) < 0.01 ? 0 : offset;
  if (heard->n_pieces == 0 || hearing->publisher->n_sent == 0) {
    return offset;
  }
  double first_s = ((double)heard->pieces[0].at_ns - (double)hearing->publisher->sent_ns[0]) /
                   (double)VC_NS_PER_S;
  return offset + MARK_PERIOD_S * fmax(0, round((first_s - offset) / MARK_PERIOD_S));
}

static int is_short(const struct heard *heard, size_t i)
{
  return (double)(heard->pieces[i].n_samples - heard->pieces[i - 1].n_samples) <
         RATE_HZ / CHUNKS_PER_S;
}

double hearing_short_part(const struct speech *speech)
{
  size_t n = 0, n_short = 0;
  for (size_t i = 0; i < speech->n_heard; i++) {
    for (size_t k = 1; k < speech->heard[i].n_pieces; k++, n++) {
      n_short += (size_t)is_short(&speech->heard[i], k);
    }
  }
  return n > 0 ? (double)n_short / (double)n * 100 : NAN;
}

double hearing_latency_ms(const struct hearing *hearing, double delay_s, size_t i)
{
  const struct publisher *publisher = hearing->publisher;
  if (i == 0 || i >= hearing->heard->n_pieces) {
    return NAN;
  }
  const struct hearing_piece *piece = &hearing->heard->pieces[i];
  double frame_s = (double)hearing->sound->frame_samples / hearing->sound->sample_rate_hz;
  double needed_s = (double)piece->n_samples / RATE_HZ + delay_s;
  size_t message = (size_t)ceil(needed_s / frame_s - 1e-9);
  if (piece->at_ns < hearing->from_ns || piece->at_ns >= hearing->to_ns ||
      is_short(hearing->heard, i) || message > publisher->n_sent) {
    return NAN;
  }
  return ((double)piece->at_ns - (double)publisher->sent_ns[message - 1]) / (double)VC_NS_PER_MS;
}

void hearing_measure(const struct hearing *hearing, double delay_s, struct samples *samples)
{
  for (size_t i = 1; i < hearing->heard->n_pieces; i++) {
    double latency_ms = hearing_latency_ms(hearing, delay_s, i);
    if (!isnan(latency_ms)) {
      samples_add(samples, latency_ms);
    }
  }
}

static double least_ms(const struct hearing *hearing, double delay_s)
{
  double least = INFINITY;
  for (size_t i = 1; i < hearing->heard->n_pieces; i++) {
    double latency_ms = hearing_latency_ms(hearing, delay_s, i);
    least = latency_ms < least ? latency_ms : least; // not of NAN
  }
  return least;
}

double hearing_delay_s(const struct hearing *hearing)
{
  double base_s = lost_s(hearing), delay_s = base_s;
  while (base_s >= MARK_PERIOD_S && least_ms(hearing, base_s) < 0) {
    base_s -= MARK_PERIOD_S; // it was slow at first, and lost nothing
  }
  for (int step = MARGIN_STEPS; step >= 0; step--) {
    delay_s = base_s + MARGIN_MS * step / MARGIN_STEPS / 1e3;
    if (least_ms(hearing, delay_s) >= 0) {
      break;
    }
  }
  return delay_s;
}

const struct publisher *hearing_publisher(const struct publishing *publishing, const char *slug)
{
  for (size_t i = 0; i < publishing->n; i++) {
    if (strcmp(publishing->publishers[i].slug, slug) == 0) {
      return &publishing->publishers[i];
    }
  }
  die("the system under test names a session '%s'", slug);
}
