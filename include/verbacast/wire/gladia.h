// Gladia Live v2, the client's side: what is posted, what is sent, what comes back. Pure.
// Source of the protocol facts: the public SDKs and docs, collected in docs/stt.md.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/wire/utterance.h>

// --- what a client says

struct vc_gladia_init {
  const char *session; // goes into custom_metadata.session, NULL: none
  const char *const *languages;
  size_t n_languages; // 0: the provider detects
  double endpointing_s;
  double max_utterance_s;
};

// The body of `POST /v2/live`: PCM16, 16 kHz, mono; all messages named explicitly.
// Returns: malloc'ed text, or NULL without memory.
char *vc_gladia_print_init(const struct vc_gladia_init *init);

struct vc_gladia_session {
  char id[128];
  char url[2048]; // a credential: never to be logged
};
// Reads the answer to the POST. Returns: 0, or -1 and `why` (a constant text).
int vc_gladia_parse_init_answer(const char *text, size_t size, struct vc_gladia_session *session,
                                const char **why);

extern const char vc_gladia_stop_recording[]; // a text message
extern const char vc_gladia_keep_alive[];     // a text message: an empty audio chunk

// --- what a server says

enum vc_gladia_kind {
  VC_GLADIA_IGNORED,       // known or not, nothing to do
  VC_GLADIA_TRANSCRIPT,    // utterance
  VC_GLADIA_AUDIO_ACK,     // byte_begin, byte_end
  VC_GLADIA_AUDIO_REFUSED, // error_text
  VC_GLADIA_SPEECH_START,  // time_s
  VC_GLADIA_SPEECH_END,    // time_s
  VC_GLADIA_STOP_ACK,
  VC_GLADIA_END_RECORDING,
  VC_GLADIA_END_SESSION,
  VC_GLADIA_ERROR, // error_text, status_code (0 unknown)
};

#define VC_GLADIA_TEXT_MAX 65536
#define VC_GLADIA_WORDS_MAX 4096

struct vc_gladia_message {
  enum vc_gladia_kind kind;
  struct vc_utterance *utterance; // owned by the caller after parsing
  uint64_t byte_begin, byte_end;  // [begin, end); an inclusive end of some servers is evened out
  double time_s;
  int status_code;
  char error_text[256];
};

// Returns: 0 and a message, 1 malformed (count it, go on), -1 no memory.
// Times are finite, not negative, end >= start; text and words without blanks at the ends.
int vc_gladia_parse(const char *text, size_t size, struct vc_gladia_message *message);
