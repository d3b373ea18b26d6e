// Prints records as the node makes them, one a line: for the lint that holds them against
// docs/schemas.
#include <verbacast/wire/record.h>

#include <math.h>
#include <stdio.h>

static const struct vc_word words[] = {{"Good", 1.25, 1.5, 0.5}, {"morning.", 1.5, 2, NAN}};
static const struct vc_utterance utterances[] = {
    {.id = "1-0-1",
     .text = "Good morning.",
     .language = "en",
     .speaker = "Ann",
     .start_s = 1.25,
     .end_s = 2,
     .confidence = 0.875,
     .is_final = 1,
     .is_approximate = 1,
     .words = words,
     .n_words = 2},
    {.id = "1-0-2", .text = "", .language = "", .confidence = NAN, .is_final = 1},
};

static int print(const struct vc_record_fields *fields)
{
  struct vc_text text = {0};
  vc_record_print(&text, fields);
  int has_failed = text.has_failed || puts(text.at) < 0;
  vc_text_fini(&text);
  return has_failed;
}

int main(void)
{
  struct vc_record_fields fields = {.session = "demo",
                                    .epoch = INT64_C(1790000000000),
                                    .node = "a1",
                                    .started_at_ms = INT64_C(1790000000000),
                                    .ended_at_ms = INT64_C(1790000060000),
                                    .reason = "crash",
                                    .received_at_us = INT64_C(1790000002000000)};
  int has_failed = 0;
  for (size_t i = 0; i < sizeof utterances / sizeof *utterances; i++) {
    fields.type = VC_RECORD_TYPE_TRANSCRIPT;
    fields.seq = i + 1;
    fields.utterance_id = utterances[i].id;
    fields.utterance = &utterances[i];
    has_failed |= print(&fields);
  }
  fields.type = VC_RECORD_TYPE_SESSION_STARTED;
  has_failed |= print(&fields);
  fields.type = VC_RECORD_TYPE_SESSION_ENDED;
  has_failed |= print(&fields);
  fields.type = VC_RECORD_TYPE_SESSION_ERASED;
  fields.erased_at_ms = INT64_C(1790000090000);
  has_failed |= print(&fields);
  return has_failed;
}
