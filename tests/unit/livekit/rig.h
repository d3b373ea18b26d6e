// The room on its real thread, between webhooks that the test signs and a LiveKit whose answers the
// test gives. Time stands still until the test passes it.
#pragma once

#include <verbacast/livekit.h>

#include <pthread.h>

#define RIG_KEYS "APInew,APIold"
#define RIG_SECRET "a secret of 32 bytes or even more"
#define RIG_OLD_SECRET "the old one"
#define RIG_NOW_S INT64_C(1790000000) // Unix time at first
#define RIG_ADDRESS "rtmp://media.example:1937/live"

enum { RIG_LIST_ROOMS, RIG_LIST_EGRESS, RIG_START, RIG_STOP, RIG_METHODS };

struct rig_answer {
  int status;
  const char *body;
};

struct rig {
  struct vc_livekit_options options;
  struct vc_option_group group;
  struct vc_option_set set;
  struct vc_clock clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_livekit *livekit;
  /* LiveKit's */
  int listener;
  pthread_t thread;
  _Atomic int is_over;
  /* any thread, atomic */
  _Atomic uint64_t passed_ms;
  /* under the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct rig_answer answers[RIG_METHODS];
  int n_calls[RIG_METHODS];
  char last[1024];    // the body of the last call
  char ended[64];     // sessions, each with a blank behind it
  char claimed[1024]; // keys, likewise
  const char *others; // keys that begin so are another node's; NULL: there is nobody to ask
  int is_held;        // the room's thread waits in end_session
  int is_withheld[RIG_METHODS]; // LiveKit's answer, which is of now, waits
  uint64_t claim_ms;            // that a claim takes
  int n_stuck;                  // claims at whose end the room's thread was said to hang
};

// `poll_ms`: LIVEKIT_POLL_MS, and egresses are begun; NULL: they are not.
void rig_start(struct rig *rig, const char *poll_ms);
void rig_stop(struct rig *rig);
void rig_pass(struct rig *rig, uint64_t ms);
void rig_answer(struct rig *rig, int method, int status, const char *body);
void rig_set_others(struct rig *rig, const char *others);
// The next answer of that method waits until rig_let_go.
void rig_withhold(struct rig *rig, int method);
void rig_let_go(struct rig *rig);
void rig_set_claim_ms(struct rig *rig, uint64_t ms);
int rig_n_stuck(struct rig *rig);

struct signer {
  const char *key, *secret;
  int64_t expires_s; // Unix time
  int64_t begins_s;  // the same, 0: long ago
};
// A webhook with a token for `signed_body`. Returns: what it is answered.
int rig_bring(struct rig *rig, const struct signer *signer, const char *signed_body,
              const char *body, const char **why);
int rig_bring_good(struct rig *rig, const char *body);

uint64_t rig_counter(struct rig *rig, const char *name);
// Each fails when it does not come in time.
void rig_await_counter(struct rig *rig, const char *name, uint64_t value);
// Time passes until it has that value.
void rig_pass_until(struct rig *rig, const char *name, uint64_t value);
void rig_await_calls(struct rig *rig, int method, int n);
void rig_await_ended(struct rig *rig, const char *expected);
// Of the last call, and of all claims.
void rig_expect_last(struct rig *rig, const char *part);
void rig_expect_claimed(struct rig *rig, const char *keys);
// The reason of the condition `livekit`, "" for none.
void rig_await_degraded(struct rig *rig, const char *reason);
