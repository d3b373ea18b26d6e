// The stt room from inside: a worker, its sessions, and which file does what with them.
//
//   stage.c    the stage: options, metrics, the table of sessions, health
//   session.c  chunks and turns in, audio out, time, the end
//   link.c     the STT session: POST, connection, back-off, what to do when it breaks
//   hearing.c  what the service says: acknowledgments, utterances on the session's clock
//   placing.c  an utterance's times and words, without what was told before
//   outbox.c   results on their way to the ledger
#pragma once

#include <verbacast/flow/chunk.h>
#include <verbacast/flow/result.h>
#include <verbacast/base/log.h>
#include <verbacast/net/client.h>
#include <verbacast/stt.h>
#include <verbacast/wire/gladia.h>

#include <pthread.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include "ring.h"
#include "told.h"
#include "trail.h"

#define LANGUAGES_MAX 16
#define OPEN_MAX 32 // partials of a session that are owed a final; the oldest is retracted
#define ID_SIZE 64

// Rows of vc_stt_metrics.
enum {
  CHUNKS_SENT,
  CHUNK_SIZE,
  TO_STT,
  END_TO_TRANSCRIPT,
  END_TO_TRANSCRIPT_PARTIAL,
  END_TO_TRANSCRIPT_FINAL,
  LATENCY,
  LATENCY_PARTIAL,
  LATENCY_FINAL,
  MESSAGE_GAP,
  SESSIONS,
  STT_SESSIONS,
  RECONNECTS,
  REFUSALS,
  ERRORS,
  MALFORMED,
  AUDIO_REFUSED,
  AUDIO_RESENT_MS,
  AUDIO_DROPPED_MS,
  DUPLICATES,
  RETRACTS,
  KEEP_ALIVES,
  RESULTS_WAITING,
  RESULTS_DROPPED,
  OUT_OF_MEMORY,
};

// What all workers share.
struct shared {
  /* set before start, then read-only */
  struct vc_stt_settings settings;
  const char *languages[LANGUAGES_MAX];
  size_t n_languages;
  char *language_text; // where they point into
  int wants_tls;       // STT_URL is https: wss only
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  uint32_t n_up, n_down; // sessions whose STT is there, or is away
};

struct waiting {
  struct vc_result *result;
  struct waiting *prev, *next; // in session.outbox
};

struct open_partial {
  char id[ID_SIZE];
  int channel;
  double start_s, end_s;
  int is_from_before; // shown by a connection that broke, and not heard of since
};

enum phase {
  PHASE_WAITING,    // for retry_at_ns
  PHASE_ASKING,     // POST
  PHASE_CONNECTING, // until the upgrade is answered
  PHASE_LIVE,
  PHASE_CLOSED, // RESULT_CLOSE is said; goes when the outbox is empty
};

enum standing { STANDING_UNKNOWN, STANDING_UP, STANDING_DOWN }; // as counted in `shared`

struct session {
  uint64_t id;                // key in room.sessions
  struct vc_session *session; // one reference
  struct room *room;
  UT_hash_handle hh;
  /* the link */
  enum phase phase;
  struct vc_post *post;
  struct vc_socket *socket;
  char *url;        // of the STT session, a credential; NULL: there is none
  uint32_t ordinal; // of the STT session, 0: none yet
  enum vc_scope scope;
  uint64_t began_ns; // the STT session
  uint64_t retry_at_ns;
  uint64_t not_before_ns;      // when the service said that it may be asked again, 0: it did not
  uint64_t deadline_ns;        // of asking and connecting
  uint32_t n_failures;         // since it last worked
  uint32_t n_connect_failures; // of this url
  int has_heard;               // the peer said something on this connection
  int has_acknowledged;        // ever, in this STT session
  uint64_t unanswered_ns;      // since when audio waits for a word of the peer
  uint64_t last_sent_ns;
  enum standing standing;
  int is_broken; // a connection that worked is being restored
  char trouble[96];
  /* the audio */
  struct ring ring;
  struct trail trail;
  uint64_t send_at;   // next sample to be sent
  uint64_t sent_high; // samples before it were sent at least once
  uint64_t told_to;   // up to the end of the last final
  // Not 0: sound before told_to is sent again from here in the stream on, for a final that was
  // lost; finals that end before do not move told_to.
  uint64_t owed_stream;
  uint64_t owed_by_ns; // when finals that are still owed from before the connection count as lost
  uint64_t last_audio_ns; // when a frame was last handed over
  uint64_t probe_until_ns;
  /* what is heard */
  struct told told;
  struct open_partial open[OPEN_MAX];
  size_t n_open;
  uint64_t last_transcript_ns; // of this connection, 0: none
  int was_partial;             // that transcript
  /* its end */
  int is_lost;     // the publisher is away
  int is_ending;   // CLOSE came
  int has_stopped; // stop_recording was sent on this connection
  int has_ended;   // end_recording came
  uint64_t end_at_ns, linger_until_ns;
  enum vc_close_reason close_reason;
  /* results */
  enum vc_state said_state;
  char said_reason[96];
  struct waiting *outbox;
  size_t n_waiting;
  struct session *before;    // of the same slug, not yet over: its results go first
  struct vc_result *closing; // RESULT_CLOSE, made with the session
};

struct room {
  struct vc_worker *worker;
  struct shared *shared;
  struct vc_client *client;
  struct vc_putter *putter;
  uint32_t n_ledgers;
  struct vc_slots *slots;
  struct session *sessions;
  size_t n_waiting; // sessions with results in their outbox
  size_t n_closed;  // sessions in PHASE_CLOSED
  uint64_t random;
  struct vc_log_limit log_limit;
};

// --- stage.c
uint64_t stt_room_now(const struct room *room);
void stt_room_count(struct room *room, size_t metric, uint64_t n);
void stt_room_record(struct room *room, size_t metric, double value);
double stt_room_since_ms(const struct room *room, uint64_t then_ns);
uint64_t stt_room_random(struct room *room, uint64_t below);
// `reason` of DOWN: why, for health; else NULL.
void stt_room_stand(struct session *session, enum standing standing, const char *reason);
void stt_room_log(struct session *session, const char *event, const char *reason, int code);

// --- session.c
struct session *stt_session_create(struct room *room, struct vc_session *of);
void stt_session_destroy(struct session *session); // its outbox is empty, or what is in it is lost
void stt_session_hear_chunk(struct session *session, const struct vc_chunk *chunk);
void stt_session_turn(struct session *session, const struct vc_chunk *chunk); // LOST, BACK, CLOSE
void stt_session_begin_end(struct session *session, enum vc_close_reason reason);
void stt_session_hurry(struct session *session);  // another one of its slug waits for its end
void stt_session_finish(struct session *session); // RESULT_CLOSE, whatever is still owed
// The service has said all. What it is known to have said in vain is asked for anew, else this is
// the end.
void stt_session_conclude(struct session *session);
// Returns: the earliest sample that is not sent or not acknowledged.
uint64_t stt_session_unacknowledged(const struct session *session);
void stt_session_feed(struct session *session); // sends what there is to send
void stt_session_tick(struct session *session);
void stt_session_show_state(struct session *session);
void stt_session_trim(struct session *session);

// --- link.c
void stt_link_begin(struct session *session); // asks for an STT session
void stt_link_tick(struct session *session);
void stt_link_worked(struct session *session); // the peer proved that it is there
// On this connection, and a little of what is before.
void stt_link_send_again(struct session *session, uint64_t from);
void stt_link_renew(struct session *session); // gives the STT session up for a new one
// The session ends while the service is down: it is tried once more, now.
// Returns: 0, or 1: the service does not want that.
int stt_link_try_last(struct session *session);
void stt_link_end(struct session *session); // lets go of post, socket and url

// --- hearing.c
void stt_hear_message(struct session *session, const uint8_t *text, size_t size);
void stt_hear_retract_all(struct session *session);
void stt_hear_reconnect(struct session *session); // of the same STT session
// Returns: 1 when a final is known to be owed since before this connection.
int stt_hear_is_owed(const struct session *session);
// What is owed is taken for lost: its sound is to be heard again, from told_to on.
void stt_hear_give_owed_up(struct session *session);
// Time is over for what is owed: its sound is sent again.
void stt_hear_tick(struct session *session);

// --- placing.c
double stt_place(const struct session *session, double stream_s); // a moment, on the audio clock
enum placing {
  PLACED,
  PLACED_IN_PARTS, // words of it were told before, or it is put together from sound heard twice
  KNOWN,           // all of it was told before
  NO_MEMORY,
};
// Gives: the utterance as it is to be told, when it is placed.
enum placing stt_place_utterance(const struct session *session,
                                 const struct vc_utterance *utterance, struct vc_utterance **told);

// --- outbox.c
// Takes the result, which may be NULL (no memory: counted).
void stt_outbox_say(struct session *session, struct vc_result *result);
void stt_outbox_flush(struct session *session);
// The session is closed. Returns: 1 when the ledger has all of it, RESULT_CLOSE too.
int stt_outbox_close(struct session *session);
void stt_outbox_fini(struct session *session); // what is left is lost
