// Records: what the journal, the store and consumers keep. JSON, one object a record, described by
// docs/schemas/transcript.v1.json and sessions.v1.json. Pure.
#pragma once

#include <stdint.h>

#include <jansson.h>

#include <verbacast/wire/text.h>
#include <verbacast/wire/utterance.h>

#define VC_RECORD_VERSION 1

enum vc_record_type {
  VC_RECORD_TYPE_TRANSCRIPT,
  VC_RECORD_TYPE_SESSION_STARTED,
  VC_RECORD_TYPE_SESSION_ENDED,
  VC_RECORD_TYPE_SESSION_ERASED, // all epochs of the session up to this one
};

struct vc_record_fields {
  enum vc_record_type type;
  int is_approximate; // of a transcript that was parsed: its word times were spread, not heard
  int is_final;       // of a transcript that was parsed: it stays, as where nothing is said of it
  const char *session;
  int64_t epoch;
  const char *node;
  int64_t started_at_ms; // Unix time of the session's begin
  /* transcripts */
  uint64_t seq;
  const char *utterance_id;
  const struct vc_utterance *utterance; // printing only
  int64_t received_at_us;               // Unix time
  /* session_ended */
  int64_t ended_at_ms;
  const char *reason;
  /* session_erased */
  int64_t erased_at_ms;
  /* transcripts that were parsed */
  const char *text;
  const char *language; // "" unknown
  const char *speaker;  // NULL unknown
  double confidence;    // NAN unknown
  double start_s, end_s;
  const json_t *words; // NULL or an array
};

// Times are printed as seconds with three digits.
void vc_record_print(struct vc_text *text, const struct vc_record_fields *fields);

// A record that was parsed: the strings of its fields live in `root`.
struct vc_record_parsed {
  struct vc_record_fields fields;
  json_t *root;
};
// Returns: 0, or -1 and `why`, a constant text: what makes the record a poisoned one, or
// vc_json_no_memory, which says nothing of the record.
int vc_record_parse(const char *text, size_t size, struct vc_record_parsed *record,
                    const char **why);
// The same of a JSON value; the fields point into it. Returns: NULL, or why it is no record.
const char *vc_record_read(const json_t *root, struct vc_record_fields *fields);
void vc_record_parsed_fini(struct vc_record_parsed *record);
