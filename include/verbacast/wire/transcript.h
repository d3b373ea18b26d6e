// A session's finals as a document: JSON, plain text, SubRip, WebVTT. Pure.
#pragma once

#include <stddef.h>

#include <verbacast/wire/record.h>

enum vc_transcript_format {
  VC_TRANSCRIPT_JSON,
  VC_TRANSCRIPT_TXT,
  VC_TRANSCRIPT_SRT,
  VC_TRANSCRIPT_VTT,
};

// Returns: 0, or -1: no such format. `name`: "json", "txt", "srt", "vtt".
int vc_transcript_parse_format(const char *name, enum vc_transcript_format *format);
const char *vc_transcript_content_type(enum vc_transcript_format format);

// Printed record by record, so that no list has to be held.
struct vc_transcript_printer {
  struct vc_text *text;
  enum vc_transcript_format format;
  size_t n;        // records so far
  int64_t epoch;   // of the last record
  double offset_s; // srt, vtt: where the epoch begins on the document's clock
  double end_s;    // srt, vtt: the latest end so far
};
void vc_transcript_begin(struct vc_transcript_printer *printer, struct vc_text *text,
                         enum vc_transcript_format format, const char *session);
// A cue of srt and vtt has one clock: each epoch begins where the one before ended.
void vc_transcript_add(struct vc_transcript_printer *printer,
                       const struct vc_record_fields *fields);
void vc_transcript_end(struct vc_transcript_printer *printer);
