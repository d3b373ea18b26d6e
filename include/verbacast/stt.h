// stt: chunks in, what was said in them out. The client of a Gladia Live v2 service.
//
//   decode -- CHUNK --> stt -- RESULT --> ledger
//
// A session has one STT session at a time (POST, then a WebSocket) and a ring of audio: what is not
// yet covered by a final is kept, so that a connection that drops is taken up where it was and an
// STT session that is lost is replaced by a new one, and every second is told once. Times of
// results are seconds on the session's audio clock.
//
// While a session has a publisher its STT is tried for ever, at most every 30 s. At its end what
// was said last is waited for, at most VC_STT_END_MS; then RESULT_CLOSE.
//
// Bounds: STT_BUFFER_MS of audio a session (beyond it the oldest is dropped and counted), in pieces
// of 64 KiB; VC_STT_WAIT_MAX results of a session that the ledger's lane has no room for (a partial
// is replaced in place; meanwhile that session's socket is not read).
#pragma once

#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>

#define VC_STT_WAIT_MAX 4096
#define VC_STT_END_MS 10000

struct vc_stt_options {
  const char *stt_url;
  struct vc_secret *gladia_api_key;
  const char *stt_languages;
  const char *stt_ca_file;
  double stt_endpointing_s;
  double stt_max_utterance_s;
  int64_t stt_buffer_ms;
  int64_t stt_threads; // 0: by cores
};
extern const struct vc_option vc_stt_option_rows[];
extern const struct vc_metric vc_stt_metrics[];

struct vc_stt_settings {
  const struct vc_stt_options *options; // lives as long as the stage
  struct vc_stage *ledger;              // where results go, worker by the session's hash
  uint32_t n_workers;
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
  struct vc_health *health;   // "stt" stands while the service refuses or cannot be reached
};

// Makes the stage; it is started and stopped by the caller. All that `settings` points to must live
// as long as the stage. When it drains, sessions that were not closed end with "shutdown"; what is
// left when the drain's time is over is closed without its last finals.
int vc_stt_create(struct vc_stage **stage, const struct vc_stt_settings *settings,
                  struct vc_error *error);
