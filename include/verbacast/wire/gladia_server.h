// Gladia Live v2, the server's side: what verbacast-stt reads and says. Pure.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/wire/text.h>
#include <verbacast/wire/utterance.h>

#define VC_GLADIA_LANGUAGES_MAX 16

// A session as it was asked for, defaults filled in.
struct vc_gladia_request {
  int sample_rate_hz;     // 8000 or 16000
  double endpointing_s;   // 0.01-10, default 0.4: what suits a local recogniser
  double max_utterance_s; // 5-60, default 5
  size_t n_languages;
  char languages[VC_GLADIA_LANGUAGES_MAX][16];
  char *metadata; // custom_metadata as JSON text, malloc'ed, or NULL
  int wants_partials, wants_finals, wants_speech, wants_acks, wants_lifecycle, wants_post,
      wants_errors;
};

// Returns: 0, or the status to refuse it with and `why`: 400 no JSON object, 422 names a field, its
// value and what is allowed, 503 no memory.
int vc_gladia_parse_request(const char *text, size_t size, struct vc_gladia_request *request,
                            char *why, size_t why_size);
void vc_gladia_request_fini(struct vc_gladia_request *request);
// As a request that asks for the same, with what was left out in it; without custom_metadata.
void vc_gladia_print_request(struct vc_text *text, const struct vc_gladia_request *request);

enum vc_gladia_client_kind {
  VC_GLADIA_CLIENT_AUDIO, // audio: decoded base64
  VC_GLADIA_CLIENT_STOP,
  VC_GLADIA_CLIENT_UNKNOWN, // a type that this server does not know: say so, go on
};
struct vc_gladia_client_message {
  enum vc_gladia_client_kind kind;
  uint8_t *audio; // malloc'ed, the caller's
  size_t audio_size;
};
// A text frame. Returns: 0, 1 malformed (`why` a constant text; the kind says whether it was meant
// as audio), -1 no memory.
int vc_gladia_parse_client(const char *text, size_t size, struct vc_gladia_client_message *message,
                           const char **why);

// Server messages. `created_at_ms` is Unix time.
struct vc_gladia_envelope {
  const char *session_id;
  int64_t created_at_ms;
};
void vc_gladia_print_init_answer(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                 const char *url);
// start_session, start_recording, end_session
void vc_gladia_print_lifecycle(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                               const char *type);
void vc_gladia_print_ack(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                         uint64_t byte_begin, uint64_t byte_end, uint32_t bytes_per_s);
void vc_gladia_print_audio_error(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                 const char *why);
// speech_start, speech_end
void vc_gladia_print_speech(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                            const char *type, double time_s);
void vc_gladia_print_utterance(struct vc_text *text, const struct vc_utterance *utterance);
void vc_gladia_print_transcript(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                const struct vc_utterance *utterance);
void vc_gladia_print_stop_ack(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                              double duration_s, double left_s);
void vc_gladia_print_end_recording(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                   double duration_s);
// `utterances`: printed utterances with commas between; `full_text` the words in one line.
void vc_gladia_print_post_transcript(struct vc_text *text,
                                     const struct vc_gladia_envelope *envelope,
                                     const char *language, const char *full_text,
                                     const char *utterances);
void vc_gladia_print_error(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                           int status_code, const char *why);
// "2026-11-22T07:00:01.123Z"
void vc_gladia_print_time(struct vc_text *text, int64_t unix_ms);
