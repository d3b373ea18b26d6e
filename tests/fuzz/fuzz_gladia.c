// What a speech-to-text server says. An utterance that was taken keeps to what the header promises,
// and comes back as the same from the server's printer and from a record's.
#include <verbacast/wire/gladia.h>
#include <verbacast/wire/gladia_server.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>
#include <verbacast/wire/viewer.h>

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_S 1e7
#define ROUNDING_S 0.001

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
  assert(vc_utf8_is_valid(text, strlen(text)) && strlen(text) <= VC_GLADIA_TEXT_MAX);
  assert(text[0] == '\0' || strchr(" \t\r\n", text[0]) == NULL);
}

static void check_span(double start_s, double end_s)
{
  assert(isfinite(start_s) && isfinite(end_s));
  assert(start_s >= 0 && end_s >= start_s && end_s < TIME_MAX_S);
}

static void check_confidence(double confidence)
{
  assert(isnan(confidence) || (confidence >= 0 && confidence <= 1));
}

static void check_utterance(const struct vc_utterance *utterance)
{
  assert(utterance->id[0] != '\0' && utterance->language != NULL && utterance->channel >= 0);
  assert(utterance->n_words <= VC_GLADIA_WORDS_MAX);
  check_text(utterance->text);
  check_span(utterance->start_s, utterance->end_s);
  check_confidence(utterance->confidence);
  for (size_t i = 0; i < utterance->n_words; i++) {
    check_text(utterance->words[i].text);
    assert(utterance->words[i].text[0] != '\0');
    check_span(utterance->words[i].start_s, utterance->words[i].end_s);
    check_confidence(utterance->words[i].confidence);
  }
}

static int is_near(double a, double b)
{
  return (isnan(a) && isnan(b)) || fabs(a - b) <= ROUNDING_S;
}

static void check_same(const struct vc_utterance *a, const struct vc_utterance *b)
{
  assert(strcmp(a->id, b->id) == 0 && strcmp(a->text, b->text) == 0);
  assert(strcmp(a->language, b->language) == 0);
  assert(a->channel == b->channel && a->is_final == b->is_final);
  assert(a->is_approximate == b->is_approximate && a->n_words == b->n_words);
  assert(is_near(a->start_s, b->start_s) && is_near(a->confidence, b->confidence));
  for (size_t i = 0; i < a->n_words; i++) {
    assert(strcmp(a->words[i].text, b->words[i].text) == 0);
    assert(is_near(a->words[i].confidence, b->words[i].confidence));
  }
}

static void say_again(const struct vc_utterance *utterance)
{
  struct vc_text text = {0};
  struct vc_gladia_message again;
  vc_gladia_print_transcript(&text, &(struct vc_gladia_envelope){"s", 1790000000000}, utterance);
  assert(!text.has_failed && vc_gladia_parse(text.at, text.size, &again) == 0);
  assert(again.kind == VC_GLADIA_TRANSCRIPT);
  check_same(utterance, again.utterance);
  vc_utterance_destroy(&again.utterance);
  vc_text_fini(&text);
}

static void keep(const struct vc_utterance *utterance)
{
  struct vc_text text = {0};
  struct vc_record_parsed record;
  const char *why = NULL;
  struct vc_record_fields fields = {.type = VC_RECORD_TYPE_TRANSCRIPT,
                                    .session = "s",
                                    .epoch = 1,
                                    .node = "n",
                                    .started_at_ms = 1790000000000,
                                    .seq = 1,
                                    .utterance_id = utterance->id,
                                    .utterance = utterance};
  vc_record_print(&text, &fields);
  assert(!text.has_failed && vc_record_parse(text.at, text.size, &record, &why) == 0);
  assert(strcmp(record.fields.text, utterance->text) == 0);
  assert(strcmp(record.fields.utterance_id, utterance->id) == 0);
  assert(json_array_size(record.fields.words) == utterance->n_words);
  vc_record_parsed_fini(&record);
  vc_text_fini(&text);
}

static void show(const struct vc_utterance *utterance)
{
  struct vc_text text = {0};
  vc_viewer_print_transcript(&text, &(struct vc_viewer_transcript){.session = "s",
                                                                   .epoch = 1,
                                                                   .seq = 1,
                                                                   .utterance_id = utterance->id,
                                                                   .utterance = utterance});
  json_t *root = text.has_failed ? NULL : vc_json_parse(text.at, text.size, NULL);
  assert(root != NULL);
  json_decref(root);
  vc_text_fini(&text);
}

static void look_at_message(const char *text, size_t size)
{
  struct vc_gladia_message message;
  int status = vc_gladia_parse(text, size, &message);
  assert(status == 0 || status == 1);
  assert((status == 0 && message.kind == VC_GLADIA_TRANSCRIPT) == (message.utterance != NULL));
  if (message.utterance != NULL) {
    check_utterance(message.utterance);
    keep(message.utterance);
    show(message.utterance);
    if (message.utterance->end_s < TIME_MAX_S - 1) {
      say_again(message.utterance);
    }
  }
  if (status == 0) {
    assert(message.byte_begin <= message.byte_end && isfinite(message.time_s));
    assert(message.time_s >= 0 && message.time_s < TIME_MAX_S);
    assert(vc_utf8_is_valid(message.error_text, strlen(message.error_text)));
  }
  vc_utterance_destroy(&message.utterance);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct vc_gladia_session session;
  const char *why = NULL;
  if (vc_gladia_parse_init_answer((const char *)data, size, &session, &why) == 0) {
    assert(session.id[0] != '\0' && session.url[0] != '\0');
  } else {
    assert(why != NULL);
  }
  look_at_message((const char *)data, size);
  return 0;
}
