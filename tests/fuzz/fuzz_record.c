// Records as a consumer reads them: what was taken is printed and read again as the same, and
// stands in a transcript of every format.
#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>
#include <verbacast/wire/transcript.h>

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_S 1e9
#define ROUNDING 0.001

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_transcript(const struct vc_record_fields *fields)
{
  assert(fields->seq > 0 && fields->utterance_id[0] != '\0' && fields->text != NULL);
  assert(fields->language != NULL && fields->received_at_us >= 0);
  assert(fields->start_s >= 0 && fields->end_s >= fields->start_s && fields->end_s < TIME_MAX_S);
  assert(fields->words == NULL || json_is_array(fields->words));
}

static int is_near(double a, double b)
{
  return (isnan(a) && isnan(b)) || fabs(a - b) <= ROUNDING;
}

static void check_same(const struct vc_record_fields *a, const struct vc_record_fields *b)
{
  assert(a->type == b->type && a->epoch == b->epoch && strcmp(a->session, b->session) == 0);
  assert(strcmp(a->node, b->node) == 0 && a->started_at_ms == b->started_at_ms);
  if (a->type == VC_RECORD_TYPE_TRANSCRIPT) {
    assert(a->seq == b->seq && strcmp(a->utterance_id, b->utterance_id) == 0);
    assert(strcmp(a->text, b->text) == 0 && strcmp(a->language, b->language) == 0);
    assert((a->speaker == NULL) == (b->speaker == NULL));
    assert(a->speaker == NULL || strcmp(a->speaker, b->speaker) == 0);
    assert(is_near(a->start_s, b->start_s) && is_near(a->end_s, b->end_s));
    assert(fabs(a->confidence) > 1 || is_near(a->confidence, b->confidence));
    assert(a->received_at_us == b->received_at_us && a->is_final == b->is_final);
  }
  if (a->type == VC_RECORD_TYPE_SESSION_ENDED) {
    assert(a->ended_at_ms == b->ended_at_ms && strcmp(a->reason, b->reason) == 0);
  }
  if (a->type == VC_RECORD_TYPE_SESSION_ERASED) {
    assert(a->erased_at_ms == b->erased_at_ms);
  }
}

static void print_again(const struct vc_record_fields *fields)
{
  struct vc_text text = {0};
  struct vc_record_parsed again;
  struct vc_record_fields printed = *fields;
  const char *why = NULL;
  struct vc_utterance utterance = {.id = fields->utterance_id,
                                   .text = fields->text,
                                   .language = fields->language,
                                   .speaker = fields->speaker,
                                   .start_s = fields->start_s,
                                   .end_s = fields->end_s,
                                   .confidence = fields->confidence,
                                   .is_final = fields->is_final};
  printed.utterance = &utterance;
  vc_record_print(&text, &printed);
  assert(!text.has_failed && vc_record_parse(text.at, text.size, &again, &why) == 0);
  check_same(fields, &again.fields);
  vc_record_parsed_fini(&again);
  vc_text_fini(&text);
}

// Twice the record, so that there is a separator, and once another epoch.
static void print_transcript(const struct vc_record_fields *fields,
                             enum vc_transcript_format format)
{
  struct vc_text text = {0};
  struct vc_transcript_printer printer;
  struct vc_record_fields other = *fields;
  other.epoch = fields->epoch < INT64_MAX ? fields->epoch + 1 : 1;
  vc_transcript_begin(&printer, &text, format, fields->session);
  vc_transcript_add(&printer, fields);
  vc_transcript_add(&printer, fields);
  vc_transcript_add(&printer, &other);
  vc_transcript_end(&printer);
  assert(!text.has_failed && vc_utf8_is_valid(text.at, text.size));
  if (format == VC_TRANSCRIPT_JSON) {
    json_t *root = vc_json_parse(text.at, text.size, NULL);
    assert(root != NULL);
    json_decref(root);
  }
  vc_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct vc_record_parsed record;
  const char *why = NULL;
  if (vc_record_parse((const char *)data, size, &record, &why) != 0) {
    assert(why != NULL && record.root == NULL);
    return 0;
  }
  const struct vc_record_fields *fields = &record.fields;
  assert(fields->session[0] != '\0' && fields->epoch > 0 && fields->node != NULL);
  if (fields->type == VC_RECORD_TYPE_TRANSCRIPT) {
    check_transcript(fields);
    for (int format = VC_TRANSCRIPT_JSON; format <= VC_TRANSCRIPT_VTT; format++) {
      print_transcript(fields, (enum vc_transcript_format)format);
    }
  }
  if (fields->type != VC_RECORD_TYPE_TRANSCRIPT || fields->end_s < TIME_MAX_S - 1) {
    print_again(fields);
  }
  vc_record_parsed_fini(&record);
  return 0;
}
