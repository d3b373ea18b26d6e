// A speech-to-text service that hears numbers: word n is WORD_SAMPLES samples of the value n + 1,
// zeros are silence. It tells a partial when half of an utterance's words are there and a final
// when all are, with the times of its stream, as Gladia Live v2. What it should do otherwise is set
// while it runs.
#pragma once

#include <peer.h>

#include <pthread.h>
#include <stdint.h>

#define WORD_SAMPLES 800   // 50 ms
#define UTTERANCE_WORDS 10 // 0.5 s
#define SERVICE_CONNECTIONS_MAX 256
#define SERVICE_SESSIONS_MAX 128

struct service_connection;

struct service_session {
  uint64_t n_samples;                     // of the stream
  int is_dead;                            // refuses connections
  const struct service_connection *owner; // who speaks on it now
  int n_utterances;
  int has_partial;
  int value; // of the run that is being heard, 0: silence
  uint64_t run_start;
  size_t n_words;
  struct {
    int value;
    uint64_t start, end;
  } words[UTTERANCE_WORDS + 1];
};

struct service {
  uint16_t port;
  int listener;
  const struct peer_tls *tls;
  pthread_t thread;
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int is_stopping;
  size_t n_connections;
  struct service_connection *connections[SERVICE_CONNECTIONS_MAX];
  struct service_session sessions[SERVICE_SESSIONS_MAX];
  size_t n_sessions;
  /* what it should do */
  int refuse_post;      // with this status
  int retry_after_s;    // of that refusal, 0: not said
  int refuse_upgrade;   // with this status
  int is_silent;        // takes audio and says nothing
  int takes_nothing;    // does not read a connection after its upgrade
  int says_rubbish;     // before each acknowledgment
  int is_deaf;          // acknowledges, tells nothing
  int ack_lag;          // acknowledges so many frames late
  int drop_after;       // > 0: drops a connection after so many frames, once
  int drop_kind;        // 0 before the last one is heard, 1 before its ack, 2 after
  int close_code;       // of that drop: 0 none, the connection just ends
  int kills;            // that drop ends the session, too
  int loses_words;      // what is heard with a frame that drops the connection is never said
  int has_late_final;   // the last final comes after end_recording
  int holds_end;        // no end_recording until it is taken back
  const char *url;      // instead of its own, in the answer to POST
  unsigned chance;      // of 1000 that a frame drops the connection
  unsigned kill_chance; // of 1000 that such a drop ends the session
  unsigned random;
  /* what it saw */
  int n_posts, n_upgrades, n_open, n_drops, n_kills, n_keep_alives, n_stops, n_frames;
  size_t frame_max;
  char key[64];
  char body[2048];
};

void service_start(struct service *service, const struct peer_tls *tls);
void service_stop(struct service *service);
// Changes a setting under the mutex.
void service_set(struct service *service, int *setting, int value);
int service_get(struct service *service, const int *count);
// Waits until a count is at least `n`; fails the test otherwise.
void service_await(struct service *service, const int *count, int n);
uint64_t service_heard(struct service *service); // samples, of all sessions
void service_await_heard(struct service *service, uint64_t n);
// Ends all connections. `is_dead`: their sessions too.
void service_drop_all(struct service *service, int is_dead);
