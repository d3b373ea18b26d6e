// One publishing of a slug on this node, as the stages know it: a refcounted block of what never
// changes and of atomic figures for /metrics and /sessions. It is no state machine: each stage
// keeps its own table of sessions, made by an `open` and ended by a `close` that travel with the
// sound.
//
// A slug may have several publishings at once, each with a participant of its own: at most one of
// nobody ("", by RTMP) and VC_PARTICIPANTS_MAX of participants. All go through the same workers,
// and the ledger makes one session of them.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define VC_SLUG_MAX 128        // bytes without the NUL; [A-Za-z0-9][A-Za-z0-9._-]{0,127}
#define VC_PARTICIPANT_MAX 64  // bytes without the NUL: printable UTF-8
#define VC_PARTICIPANTS_MAX 64 // of a slug at once

// Of the raw PCM of one participant.
#define VC_TRACK_RATE_MIN_HZ 8000
#define VC_TRACK_RATE_MAX_HZ 96000
#define VC_TRACK_CHANNELS_MAX 8

struct vc_session {
  /* set before it is shared, then read-only */
  uint64_t id;   // counts up on this node, never reused
  uint32_t hash; // of the slug: worker = hash % n in every stage
  char slug[VC_SLUG_MAX + 1];
  char participant[VC_PARTICIPANT_MAX + 1]; // who speaks; "": whoever the stream holds
  int64_t started_unix_ms;
  uint64_t began_ns; // the same, monotonic
  /* any thread, atomic (relaxed: figures only) */
  _Atomic uint32_t n_refs; // acquire/release: the last unref frees
  // When its first sample was spoken, as far as its arrival tells (monotonic); 0: none came. Set
  // once by ingest before that sound travels, so that whoever has a result of it sees it.
  _Atomic uint64_t first_audio_ns;
  _Atomic uint64_t n_audio_bytes;
  _Atomic uint64_t n_chunks_sent;
  _Atomic uint64_t n_partials; // shown; counted by the ledger
  _Atomic uint64_t n_finals;   // likewise
};

// Returns: 1 when the slug is well formed, else 0.
int vc_slug_is_valid(const char *slug, size_t size);
uint32_t vc_slug_hash(const char *slug, size_t size);
// Returns: 1 when it is 1..VC_PARTICIPANT_MAX bytes of UTF-8 without control characters and blank
// ends, else 0.
int vc_participant_is_valid(const char *participant, size_t size);

// Returns NULL without memory. The slug must be valid.
struct vc_session *vc_session_create(const char *slug, uint64_t id, int64_t started_unix_ms);
// The same of a participant, who must be valid or "".
struct vc_session *vc_session_create_of(const char *slug, const char *participant, uint64_t id,
                                        int64_t started_unix_ms);
struct vc_session *vc_session_ref(struct vc_session *session);
void vc_session_unref(struct vc_session *session);
