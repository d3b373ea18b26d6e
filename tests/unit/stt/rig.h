// The room between a decode that the test plays and a ledger that notes what it is told.
#pragma once

#include <verbacast/flow/chunk.h>
#include <verbacast/flow/result.h>
#include <verbacast/stt.h>

#include <pthread.h>
#include <stdatomic.h>

#include "service.h"

#define RIG_WORDS_MAX 4096

struct rig_settings {
  int64_t buffer_ms;     // 0: 30000
  const char *ca_file;   // NULL: the system's
  size_t ledger_lane;    // 0: 1024
  const char *languages; // NULL: en
};

struct rig {
  struct vc_stage *stt, *ledger;
  struct vc_putter *putter;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_stt_options options;
  struct vc_option_set options_set;
  struct vc_option_group options_group;
  char url[128];
  struct vc_clock clock; // the system's, turned on
  _Atomic uint64_t turned_ns;
  struct vc_session *session;
  uint64_t n_samples; // of the session's audio clock
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int is_blocked; // the ledger takes nothing
  int n_open, n_closed, n_states, n_partials, n_finals, n_retracts, n_words, ordinal_max;
  int n_stray;       // utterances and states of a session that is not open
  int n_after_close; // results behind CLOSE
  int n_unfinished;  // partials that are shown and have neither final nor retract
  struct {
    char id[80];
  } unfinished[64];
  enum vc_state state;
  char reason[96];
  enum vc_close_reason close_reason;
  int told[RIG_WORDS_MAX]; // how often word n was told by a final
  double worst_s;          // the largest distance of a word from its place
  char last_text[256];
};

void rig_start(struct rig *rig, const struct service *service, const struct rig_settings *settings);
void rig_stop(struct rig *rig);
void rig_turn(struct rig *rig, uint64_t by_ms); // the clock
void rig_begin(struct rig *rig, const char *slug);
void rig_begin_of(struct rig *rig, const char *slug, const char *participant);
void rig_say(struct rig *rig, enum vc_turn turn);   // LOST, BACK, CLOSE
void rig_speak(struct rig *rig, int n_words);       // the next words
void rig_skip(struct rig *rig, uint64_t n_samples); // the clock runs on without sound
void rig_block(struct rig *rig, int is_blocked);
void rig_await(struct rig *rig, const int *count, int n);
void rig_await_state(struct rig *rig, enum vc_state state);
// Turns the clock on until `n` sessions are closed: for ends that do not come.
void rig_turn_until_closed(struct rig *rig, int n);
void rig_await_counter(struct rig *rig, const char *name, uint64_t n);
int rig_get(struct rig *rig, const int *count);
uint64_t rig_counter(struct rig *rig, const char *name);
uint64_t rig_samples(struct rig *rig, const char *distribution); // how many since the start
// All words so far were told by finals, each once and at its place.
void rig_check_told(struct rig *rig);
