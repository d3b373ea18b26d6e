// stt: chunks to a speech-to-text service that speaks Gladia Live v2, its results to the ledger.
//
// A session is POSTed, then audio goes out as raw binary frames the moment it comes. Audio is kept
// until a final or silence covers it: a connection that drops is opened again to the same address
// and given what was not acknowledged; a session that is refused is made anew and fed from the last
// final on. While a publisher is live it is tried for ever, at most every 30 s.
//
// Bounds: STT_BUFFER_MS of audio a session, beyond it the oldest is dropped and counted; 256 finals
// that the ledger's lane did not take, then the session's socket is not read.
#pragma once

#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>

struct vc_stt_options {
  const char *stt_url;
  struct vc_secret *gladia_api_key;
  const char *stt_languages;
  double stt_endpointing_s;
  double stt_max_utterance_s;
  int64_t stt_buffer_ms;
  int64_t stt_threads;
};
extern const struct vc_option vc_stt_option_rows[];
extern const struct vc_metric vc_stt_metrics[];

struct vc_stt_settings {
  const struct vc_stt_options *options; // lives as long as the stage
  struct vc_stage *ledger;              // where results go
  uint32_t n_workers;
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
  struct vc_health *health;   // may be NULL
};

int vc_stt_create(struct vc_stage **stage, const struct vc_stt_settings *settings,
                  struct vc_error *error);
