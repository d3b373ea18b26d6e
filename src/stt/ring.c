#include "ring.h"

#include <verbacast/base/clock.h>
#include <verbacast/flow/chunk.h>

#include <stdlib.h>
#include <string.h>

#define FILL_MAX VC_SAMPLE_RATE_HZ // the longest hole that becomes silence
#define NS_PER_US 1000

struct mark {
  uint32_t end;      // samples of the piece before it
  uint32_t after_us; // since the piece's base
};

struct ring_piece {
  struct ring_piece *next;
  uint64_t first;
  uint64_t base_ns; // of the marks, 0: none has a time
  uint32_t n;
  uint32_t n_marks;
  struct mark marks[RING_MARKS_MAX];
  uint8_t pcm[RING_PIECE_SAMPLES * 2];
};

void stt_ring_init(struct ring *ring, uint64_t max_samples)
{
  *ring = (struct ring){.max_samples = max_samples};
}

void stt_ring_fini(struct ring *ring)
{
  while (ring->oldest != NULL) {
    struct ring_piece *next = ring->oldest->next;
    free(ring->oldest);
    ring->oldest = next;
  }
  free(ring->spare);
  *ring = (struct ring){0};
}

static struct ring_piece *add_piece(struct ring *ring, uint64_t first)
{
  struct ring_piece *piece = ring->spare != NULL ? ring->spare : malloc(sizeof *piece);
  if (piece == NULL) {
    return NULL;
  }
  ring->spare = NULL;
  piece->next = NULL;
  piece->first = first;
  piece->base_ns = 0;
  piece->n = piece->n_marks = 0;
  if (ring->newest != NULL) {
    ring->newest->next = piece;
  } else {
    ring->oldest = piece;
  }
  ring->newest = piece;
  return piece;
}

static void mark_arrival(struct ring_piece *piece, uint64_t arrival_ns)
{
  if (piece->base_ns == 0) {
    piece->base_ns = arrival_ns;
  }
  uint64_t after = arrival_ns > piece->base_ns ? (arrival_ns - piece->base_ns) / NS_PER_US : 0;
  if (arrival_ns == 0 || after > UINT32_MAX) {
    after = UINT32_MAX; // unknown
  }
  if (piece->n_marks == RING_MARKS_MAX) { // the last one grows
    piece->n_marks--;
  }
  piece->marks[piece->n_marks++] = (struct mark){piece->n, (uint32_t)after};
}

// A chunk stays whole, so that it is sent as one: what does not fit behind others begins a piece.
static int fits(const struct ring_piece *piece, const struct ring *ring, const uint8_t *pcm,
                uint32_t n)
{
  if (piece == NULL || piece->n == RING_PIECE_SAMPLES || piece->first + piece->n != ring->end) {
    return 0;
  }
  return pcm == NULL || n > RING_PIECE_SAMPLES || n <= RING_PIECE_SAMPLES - piece->n;
}

// Appends at the end; pcm NULL is silence.
static int append(struct ring *ring, const uint8_t *pcm, uint32_t n, uint64_t arrival_ns)
{
  while (n > 0) {
    struct ring_piece *piece = ring->newest;
    if (!fits(piece, ring, pcm, n)) {
      piece = add_piece(ring, ring->end);
    }
    if (piece == NULL) {
      return -1;
    }
    uint32_t room = RING_PIECE_SAMPLES - piece->n;
    uint32_t part = n < room ? n : room;
    if (pcm != NULL) {
      memcpy(piece->pcm + piece->n * 2, pcm, part * 2);
      pcm += part * 2;
    } else {
      memset(piece->pcm + piece->n * 2, 0, part * 2);
    }
    piece->n += part;
    ring->end += part;
    n -= part;
    mark_arrival(piece, arrival_ns);
  }
  return 0;
}

int stt_ring_put(struct ring *ring, uint64_t first, const uint8_t *pcm, uint32_t n,
                 uint64_t arrival_ns)
{
  if (ring->oldest == NULL && ring->end < first) {
    ring->tail = ring->end = first;
  }
  if (first < ring->end) {
    uint64_t known = ring->end - first;
    if (known >= n) {
      return 0;
    }
    first += known;
    pcm += known * 2;
    n -= (uint32_t)known;
  }
  if (first - ring->end > FILL_MAX) {
    ring->end = first;
  } else if (append(ring, NULL, (uint32_t)(first - ring->end), 0) != 0) {
    return -1;
  }
  int status = append(ring, pcm, n, arrival_ns);
  if (ring->end - ring->tail > ring->max_samples) {
    stt_ring_trim(ring, ring->end - ring->max_samples);
  }
  return status;
}

void stt_ring_trim(struct ring *ring, uint64_t to)
{
  if (to > ring->end) {
    to = ring->end;
  }
  if (to > ring->tail) {
    ring->tail = to;
  }
  while (ring->oldest != NULL && ring->oldest->first + ring->oldest->n <= ring->tail) {
    struct ring_piece *piece = ring->oldest;
    ring->oldest = piece->next;
    if (ring->oldest == NULL) {
      ring->newest = NULL;
    }
    free(ring->spare);
    ring->spare = piece;
  }
}

uint32_t stt_ring_run(const struct ring *ring, uint64_t from, uint32_t most, uint64_t *first,
                      const uint8_t **pcm)
{
  const struct ring_piece *piece = ring->oldest;
  from = from < ring->tail ? ring->tail : from;
  while (piece != NULL && piece->first + piece->n <= from) {
    piece = piece->next;
  }
  if (piece == NULL) {
    return 0;
  }
  *first = from < piece->first ? piece->first : from;
  uint32_t offset = (uint32_t)(*first - piece->first);
  uint32_t n = piece->n - offset;
  *pcm = piece->pcm + (size_t)offset * 2;
  return n < most ? n : most;
}

uint64_t stt_ring_arrival(const struct ring *ring, uint64_t sample)
{
  const struct ring_piece *piece = ring->oldest;
  while (piece != NULL && piece->first + piece->n <= sample) {
    piece = piece->next;
  }
  if (piece == NULL || sample < piece->first) {
    return 0;
  }
  uint32_t low = 0, high = piece->n_marks;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (piece->marks[middle].end <= sample - piece->first) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low == piece->n_marks || piece->marks[low].after_us == UINT32_MAX
             ? 0
             : piece->base_ns + (uint64_t)piece->marks[low].after_us * NS_PER_US;
}
