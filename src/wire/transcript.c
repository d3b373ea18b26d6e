#include <verbacast/wire/transcript.h>

#include <verbacast/wire/json.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_names[] = {"json", "txt", "srt", "vtt"};

int vc_transcript_parse_format(const char *name, enum vc_transcript_format *format)
{
  for (size_t i = 0; i < sizeof format_names / sizeof *format_names; i++) {
    if (strcmp(format_names[i], name) == 0) {
      *format = (enum vc_transcript_format)i;
      return 0;
    }
  }
  return -1;
}

const char *vc_transcript_content_type(enum vc_transcript_format format)
{
  static const char *const types[] = {"application/json", "text/plain; charset=utf-8",
                                      "application/x-subrip; charset=utf-8",
                                      "text/vtt; charset=utf-8"};
  return types[format];
}

void vc_transcript_begin(struct vc_transcript_printer *printer, struct vc_text *text,
                         enum vc_transcript_format format, const char *session)
{
  *printer = (struct vc_transcript_printer){.text = text, .format = format};
  if (format == VC_TRANSCRIPT_JSON) {
    vc_text_add(text, "{\"session\":");
    vc_text_json_string(text, session);
    vc_text_add(text, ",\"transcripts\":[");
  } else if (format == VC_TRANSCRIPT_VTT) {
    vc_text_add(text, "WEBVTT\n\n");
  }
}

static void add_time(struct vc_text *text, double seconds, char point)
{
  uint64_t ms = seconds > 0 ? (uint64_t)llround(seconds * 1000) : 0;
  vc_text_format(text, "%02" PRIu64 ":%02d:%02d%c%03d", ms / 3600000, (int)(ms / 60000 % 60),
                 (int)(ms / 1000 % 60), point, (int)(ms % 1000));
}

// Returns: the size of what some reader takes for a line's end, NEL, LS and PS too, or 0.
static size_t line_break_size(const char *s)
{
  if (((unsigned char)*s < ' ' && *s != '\0') || *s == 0x7f) {
    return 1;
  }
  return strncmp(s, "\xc2\x85", 2) == 0                                             ? 2
         : strncmp(s, "\xe2\x80\xa8", 3) == 0 || strncmp(s, "\xe2\x80\xa9", 3) == 0 ? 3
                                                                                    : 0;
}

// One line: line breaks end a cue's text or a line of plain text. WebVTT has markup; SubRip has no
// way to say an arrow, which its readers take for another cue's times.
static void add_line(struct vc_text *text, const char *line, enum vc_transcript_format format)
{
  int is_vtt = format == VC_TRANSCRIPT_VTT, is_srt = format == VC_TRANSCRIPT_SRT;
  for (const char *s = line; *s != '\0'; s++) {
    size_t n = line_break_size(s);
    if (n > 0) {
      vc_text_add(text, " ");
      s += n - 1;
    } else if (is_vtt && (*s == '&' || *s == '<' || *s == '>')) {
      vc_text_add(text, *s == '&' ? "&amp;" : *s == '<' ? "&lt;" : "&gt;");
    } else if (is_srt && *s == '>' && s - line >= 2 && s[-1] == '-' && s[-2] == '-') {
      vc_text_add(text, " >");
    } else {
      vc_text_append(text, s, 1);
    }
  }
}

static void add_words(struct vc_text *text, const json_t *words)
{
  char *printed = words != NULL ? vc_json_print(words) : NULL;
  if (words != NULL && printed == NULL) {
    text->has_failed = 1;
  }
  vc_text_add(text, printed != NULL ? printed : "null");
  free(printed);
}

static void add_json(struct vc_transcript_printer *printer, const struct vc_record_fields *fields)
{
  struct vc_text *text = printer->text;
  vc_text_format(text, "%s{\"epoch\":%" PRId64 ",\"seq\":%" PRIu64 ",\"utteranceId\":",
                 printer->n > 0 ? "," : "", fields->epoch, fields->seq);
  vc_text_json_string(text, fields->utterance_id);
  vc_text_add(text, ",\"text\":");
  vc_text_json_string(text, fields->text);
  vc_text_add(text, ",\"language\":");
  vc_text_json_string(text, fields->language[0] != '\0' ? fields->language : NULL);
  vc_text_add(text, ",\"speaker\":");
  vc_text_json_string(text, fields->speaker);
  vc_text_add(text, ",\"confidence\":");
  vc_text_json_number(text, fields->confidence, 3);
  vc_text_format(text, ",\"start\":%.3f,\"end\":%.3f,\"words\":", fields->start_s, fields->end_s);
  add_words(text, fields->words);
  vc_text_add(text, fields->is_approximate ? ",\"approximate\":true}" : "}");
}

// A cue must end after it begins.
static double cue_end_s(const struct vc_record_fields *fields)
{
  return fmax(fields->end_s, fields->start_s + 0.001);
}

static void add_cue(struct vc_transcript_printer *printer, const struct vc_record_fields *fields)
{
  struct vc_text *text = printer->text;
  int is_vtt = printer->format == VC_TRANSCRIPT_VTT;
  char point = is_vtt ? '.' : ',';
  if (!is_vtt) {
    vc_text_format(text, "%zu\n", printer->n + 1);
  }
  add_time(text, printer->offset_s + fields->start_s, point);
  vc_text_add(text, " --> ");
  add_time(text, printer->offset_s + cue_end_s(fields), point);
  vc_text_add(text, "\n");
  if (fields->speaker != NULL) {
    vc_text_add(text, is_vtt ? "<v " : "");
    add_line(text, fields->speaker, printer->format);
    vc_text_add(text, is_vtt ? ">" : ": ");
  }
  add_line(text, fields->text, printer->format);
  vc_text_add(text, "\n\n");
}

void vc_transcript_add(struct vc_transcript_printer *printer, const struct vc_record_fields *fields)
{
  if (printer->n > 0 && fields->epoch != printer->epoch) {
    printer->offset_s = printer->end_s;
  }
  printer->epoch = fields->epoch;
  if (printer->offset_s + fields->end_s > printer->end_s) {
    printer->end_s = printer->offset_s + fields->end_s;
  }
  switch (printer->format) {
  case VC_TRANSCRIPT_JSON:
    add_json(printer, fields);
    break;
  case VC_TRANSCRIPT_TXT:
    if (fields->speaker != NULL) {
      add_line(printer->text, fields->speaker, printer->format);
      vc_text_add(printer->text, ": ");
    }
    add_line(printer->text, fields->text, printer->format);
    vc_text_add(printer->text, "\n");
    break;
  case VC_TRANSCRIPT_SRT:
  case VC_TRANSCRIPT_VTT:
    add_cue(printer, fields);
    break;
  }
  printer->n++;
}

void vc_transcript_end(struct vc_transcript_printer *printer)
{
  if (printer->format == VC_TRANSCRIPT_JSON) {
    vc_text_add(printer->text, "]}\n");
  }
}
