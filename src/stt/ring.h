// The audio of a session that may yet be wanted, by its position on the session's audio clock: what
// is not sent, not acknowledged, or not yet covered by a final; and when it arrived.
// Grown and given back in pieces of about 64 KiB, of which each holds whole chunks. A hole in the
// clock of at most a second is filled with silence, a longer one begins a new piece.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RING_PIECE_SAMPLES 32000 // 2 s
#define RING_MARKS_MAX 208       // chunks whose arrival a piece remembers

struct ring_piece;

struct ring {
  uint64_t max_samples; // set by init
  uint64_t tail, end;   // what is held: [tail, end), with holes
  struct ring_piece *oldest, *newest;
  struct ring_piece *spare; // at most one
};

void stt_ring_init(struct ring *ring, uint64_t max_samples);
void stt_ring_fini(struct ring *ring);
// Takes n samples that begin at `first`; what it has already is passed over. Beyond max_samples the
// oldest goes. Returns: 0, or -1 without memory: these samples are not held.
int stt_ring_put(struct ring *ring, uint64_t first, const uint8_t *pcm, uint32_t n,
                 uint64_t arrival_ns);
// Lets go of what is before `to`.
void stt_ring_trim(struct ring *ring, uint64_t to);
// Gives the first samples at or after `from`, at most `most` of them and without a hole.
// Returns: how many, 0 none.
uint32_t stt_ring_run(const struct ring *ring, uint64_t from, uint32_t most, uint64_t *first,
                      const uint8_t **pcm);
// Returns: when the chunk with that sample arrived, 0 unknown.
uint64_t stt_ring_arrival(const struct ring *ring, uint64_t sample);
