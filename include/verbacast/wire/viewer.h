// What a viewer receives: one JSON object a message, its fields in the order of docs/protocol.md.
// Pure; prints into a vc_text, whose has_failed tells of missing memory.
#pragma once

#include <stdint.h>

#include <verbacast/wire/text.h>
#include <verbacast/wire/utterance.h>

struct vc_viewer_hello {
  const char *session;
  int64_t epoch; // 0: none yet
  uint64_t seq;
  const char *state;
  const char *reason; // NULL: none
  const char *node;
};

struct vc_viewer_transcript {
  const char *session;
  int64_t epoch;
  uint64_t seq;
  const char *utterance_id;
  const struct vc_utterance *utterance; // its times are the session's
  int64_t sent_at_us;                   // Unix time
};

void vc_viewer_print_hello(struct vc_text *text, const struct vc_viewer_hello *hello);
// A final carries its words, a partial none; both carry sentAt.
void vc_viewer_print_transcript(struct vc_text *text,
                                const struct vc_viewer_transcript *transcript);
void vc_viewer_print_retract(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                             const char *utterance_id);
// `reason` NULL: none.
void vc_viewer_print_status(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                            const char *state, const char *reason);
// `to` 0: unknown, printed as null.
void vc_viewer_print_gap(struct vc_text *text, const char *session, int64_t epoch, uint64_t from,
                         uint64_t to);
void vc_viewer_print_end(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                         const char *reason);
// What a transcript and a record of it have in common: ,"seq":…, … ,"start":…,"end":…
void vc_viewer_print_said(struct vc_text *text, uint64_t seq, const char *utterance_id,
                          const struct vc_utterance *utterance);
// [{"word":…,"start":…,"end":…,"confidence":…}], or null: there are none.
void vc_viewer_print_words(struct vc_text *text, const struct vc_word *words, size_t n_words);

// "EPOCH.SEQ", both decimal. Returns: 0, or -1 malformed.
int vc_viewer_parse_since(const char *text, int64_t *epoch, uint64_t *seq);
