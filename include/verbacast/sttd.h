// sttd: a speech-to-text server for one machine, Gladia Live v2 on the wire; the whole of
// verbacast-stt but its main().
//
// One thread serves the network (a stage of one worker); one recogniser a core turns sound into
// words (src/sttd/pool.h). Slow decoding never holds up the network, and a client that sends faster
// than it speaks is read less, so that it cannot starve those that are live.
//
// Bounds: STT_MAX_SESSIONS open sessions (beyond: 429 with Retry-After) and four times as many
// connections and 64; a head of 8 KiB, a body of 64 KiB, both within 10 s; frames of 1 MiB (beyond:
// close 1009); 4 s of unheard sound a session; 1 MiB of unsent output a connection, from 64 KiB on
// partials are left out; 30 s without input close a connection, its session can be resumed for 60
// s; the results of the last 64 ended sessions are kept for 10 minutes, 1 MiB each.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <verbacast/base/address.h>
#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>

#define VC_STTD_SUMMARY "A local speech-to-text server that speaks the Gladia Live v2 protocol."

struct vc_sttd_options {
  const char *listen;
  int engine; // auto, sherpa, pocketsphinx
  const char *model;
  int64_t max_sessions; // 0: by cores
  struct vc_secret *api_keys;
};
extern const struct vc_option vc_sttd_option_rows[];
extern const struct vc_metric vc_sttd_metrics[];
extern const struct vc_metric vc_sttd_pool_metrics[];

struct vc_sttd_settings {
  const struct vc_sttd_options *options; // lives as long as the server
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  uint64_t descriptors_max; // what the process may have
};

struct vc_sttd;

// Loads the engine (a second or so) and binds STT_LISTEN; connections are taken from start on.
int vc_sttd_create(struct vc_sttd **sttd, const struct vc_sttd_settings *settings,
                   struct vc_address *bound, struct vc_error *error);
int vc_sttd_start(struct vc_sttd *sttd, struct vc_error *error);
// Nothing new is taken; every session gets its last finals, within timeout_ms, then close 1001.
// Returns: 0, or 1 the time was over.
int vc_sttd_stop(struct vc_sttd *sttd, uint32_t timeout_ms);
void vc_sttd_destroy(struct vc_sttd **sttd);
// For --check-config: loads the engine and says what would run. Returns: 0, or -1 and the error.
int vc_sttd_check(const struct vc_sttd_options *options, FILE *out, struct vc_error *error);
