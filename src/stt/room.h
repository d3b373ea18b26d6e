// What the files of the room share.
#pragma once

#include <uthash.h>
#include <utlist.h>

#include <verbacast/flow/chunk.h>
#include <verbacast/flow/result.h>
#include <verbacast/net/client.h>
#include <verbacast/stt.h>
#include <verbacast/wire/gladia.h>

#define LANGUAGES_MAX 16
#define PIECE_BYTES 32768         // of a backlog in one frame; the protocol's limit is 1 MiB
#define MESSAGE_MAX (1024 * 1024) // from the server
#define FINALS_WAITING_MAX 256    // that the ledger did not take, then the socket is not read
#define SEGMENTS_MAX 64
#define RANGES_MAX 16
#define OPEN_MAX 16 // utterances with a partial and no final
#define OVERLAP_SAMPLES                                                                            \
  (VC_SAMPLE_RATE_HZ / 2) // a new session is fed from so long before the last final's end
#define POST_TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_MS 10000
#define KEEP_ALIVE_MS 20000 // the provider drops a silent connection after about 30 s
#define CLOSE_WAIT_MS 10000 // for the last finals of a session that ended
#define ATTEMPTS_PER_URL 5
#define BACKOFF_FIRST_MS 300
#define BACKOFF_MAX_MS 30000

enum metric {
  CHUNKS_SENT,
  CHUNK_BYTES,
  TO_STT,
  END_TO_TRANSCRIPT,
  END_TO_PARTIAL,
  END_TO_FINAL,
  LATENCY,
  LATENCY_PARTIAL,
  LATENCY_FINAL,
  MESSAGE_GAP,
  SESSIONS,
  CONNECTIONS_TOTAL,
  RECONNECTS,
  NEW_SESSIONS,
  REFUSALS,
  AUDIO_DROPPED_MS,
  MALFORMED,
  ERRORS,
  DUPLICATES,
  PARTIALS_MERGED,
  UNFINISHED,
};

struct room {
  /* set before start, then read-only */
  struct vc_stt_settings settings;
  char languages_text[256];
  const char *languages[LANGUAGES_MAX];
  size_t n_languages;
  /* any thread, atomic */
  _Atomic int n_in_trouble; // sessions; health is degraded while there is one
};

// --- audio.c: what is kept, and what the provider's clock means

struct audio_entry {
  struct vc_buffer *pcm;
  uint64_t first; // sample on the session's audio clock
  uint32_t n;
  uint64_t arrival_ns;
  struct audio_entry *prev, *next; // in audio.entries
};

// From `offset` (samples the STT session was sent) on, its clock means `sample` of ours.
struct segment {
  uint64_t offset, sample;
};

struct audio {
  struct audio_entry *entries;
  uint64_t n_kept;    // samples
  uint64_t next_sent; // the sample to be sent next
  uint64_t acked;     // of this connection: all before was acknowledged
};

void audio_add(struct audio *audio, struct audio_entry *entry);
// Lets go of what lies wholly before `sample`.
void audio_release(struct audio *audio, uint64_t sample);
// Drops the oldest while more than `most` samples are kept. Returns: samples dropped that were
// never sent.
uint64_t audio_bound(struct audio *audio, uint64_t most);
// Moves `*position` on by n samples of what is kept, over holes.
void audio_advance(const struct audio *audio, uint64_t *position, uint64_t n);
// The entry that holds the sample, or the first behind it; NULL: none.
struct audio_entry *audio_find(const struct audio *audio, uint64_t sample);
uint64_t audio_begin(const struct audio *audio);
uint64_t audio_end(const struct audio *audio);
void audio_fini(struct audio *audio);

// --- a session

enum stage_of_session {
  POSTING,
  OPENING,
  OPEN,
  WAITING,  // until retry_ns
  FINISHED, // its last results wait for the ledger
};

struct open_utterance {
  char id[64];
  int channel;
};

struct waiting {
  struct vc_result *result;
  struct waiting *prev, *next; // in session.waiting
};

struct session {
  uint64_t id;
  struct vc_worker *worker;
  struct vc_session *session; // one reference
  enum stage_of_session stage;
  struct vc_post *post;
  struct vc_socket *socket;
  char *url; // of the STT session; NULL: none, a credential
  int is_peer_private;
  uint32_t ordinal;        // of the STT session, from 1
  uint32_t n_attempts;     // failures in a row
  uint32_t n_url_attempts; // of this url
  uint64_t retry_ns;
  uint64_t opening_ns; // since when it opens
  /* audio */
  struct audio audio;
  int must_write;            // the socket has not taken the last message to its end
  int has_acks;              // of this STT session
  int has_first_ack;         // of this connection
  uint64_t connection_first; // the first sample that this connection was sent
  uint64_t n_sent;           // samples the STT session was sent, doubles too
  struct segment segments[SEGMENTS_MAX];
  size_t n_segments;
  uint64_t final_end; // sample: all before is covered by finals
  struct {
    double start_s, end_s;
  } ranges[RANGES_MAX]; // of the last finals, for what is told twice
  size_t n_ranges, next_range;
  /* the publisher */
  int is_lost;     // it is away
  int is_closing;  // no audio comes any more
  int has_stopped; // stop_recording was sent
  enum vc_close_reason close_reason;
  uint64_t close_ns;
  /* results */
  struct open_utterance open[OPEN_MAX];
  size_t n_open;
  struct waiting *waiting;
  size_t n_waiting;
  int is_paused;
  enum vc_state state;
  int is_in_trouble;
  /* figures */
  uint64_t last_sent_ns, last_transcript_ns;
  int was_partial;   // the last transcript
  UT_hash_handle hh; // in worker_state.sessions
};

struct worker_state {
  struct room *room;
  struct vc_client *client;
  struct vc_putter *ledger;
  uint32_t n_ledger;
  struct session *sessions;
  int is_draining;
  uint8_t piece[PIECE_BYTES];
};

// --- session.c
void stt_session_chunk(struct vc_worker *worker, struct vc_chunk *chunk);
void stt_session_tick(struct session *session);
void stt_session_destroy(struct session *session);
// What it still waits for will not come in time: it ends now.
void stt_session_give_up(struct session *session);

// --- results.c
void results_message(struct session *session, const uint8_t *text, size_t size);
void results_turn(struct session *session, enum vc_result_kind kind);
void results_state(struct session *session, enum vc_state state, const char *reason);
// Open partials will get no final any more.
void results_retract(struct session *session);
// Puts what waits. Returns: 1 when nothing waits any more.
int results_flush(struct session *session);
void results_acked(struct session *session, uint64_t byte_begin, uint64_t byte_end);
