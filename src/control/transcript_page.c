// A session's finals: what the ledger holds, and before it what only the store has any more.
#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/store.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/transcript.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct document {
  struct vc_transcript_printer printer;
  int64_t first_epoch; // of what the ledger holds; from here on the store is not needed
  uint64_t first_seq;
};

static void add_stored(void *context, const struct vc_record_fields *fields)
{
  struct document *document = context;
  if (fields->epoch < document->first_epoch ||
      (fields->epoch == document->first_epoch && fields->seq < document->first_seq)) {
    vc_transcript_add(&document->printer, fields);
  }
}

// Returns: how many rows the store has of the slug, or -1: it could not be read.
static long add_from_store(struct vc_control *control, const char *slug, struct document *document)
{
  const char *url = control->settings.options->database_url;
  struct vc_store *store;
  struct vc_error error;
  if (url[0] == '\0') {
    return 0;
  }
  long n = -1;
  if (vc_store_open_existing(&store, url, &error) == 0) {
    n = vc_store_read(store, slug, control->settings.stored_max, add_stored, document, &error);
    vc_store_close(&store);
  }
  if (n < 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("transcript.store"), VC_STR("why", error.text));
  }
  return n;
}

static void find_first(const json_t *held, struct document *document)
{
  const json_t *first = json_array_get(held, 0);
  document->first_epoch = first != NULL ? vc_json_integer(first, "epoch", 0) : INT64_MAX;
  document->first_seq = first != NULL ? (uint64_t)vc_json_integer(first, "seq", 0) : 0;
}

static void add_held(const json_t *held, struct document *document)
{
  size_t i;
  json_t *row;
  json_array_foreach((json_t *)held, i, row)
  {
    struct vc_record_fields fields;
    if (vc_record_read(row, &fields) == NULL) {
      vc_transcript_add(&document->printer, &fields);
    }
  }
}

// Whether a final from before all that the ledger holds is still on its way to the store; asked
// before the store is read. Returns: 1 also when nobody can tell.
static int is_under_way(struct vc_control *control, const char *slug,
                        const struct document *document)
{
  struct vc_query *query =
      ask_worker(control->journal, control->settings.journal, VC_QUERY_UNSENT, slug, 0);
  int found = query == NULL || vc_query_status(query) != 404;
  const struct vc_buffer *oldest = query != NULL ? vc_query_reply(query) : NULL;
  struct vc_record_parsed record;
  const char *why;
  if (oldest != NULL &&
      vc_record_parse((const char *)oldest->data, oldest->size, &record, &why) == 0) {
    found =
        record.fields.epoch < document->first_epoch ||
        (record.fields.epoch == document->first_epoch && record.fields.seq < document->first_seq);
    vc_record_parsed_fini(&record);
  }
  vc_query_unref(query);
  return found;
}

static void print(struct call *call, const json_t *held, int is_held_complete,
                  enum vc_transcript_format format)
{
  struct vc_text text = {0};
  struct document document;
  vc_transcript_begin(&document.printer, &text, format, call->slug);
  find_first(held, &document);
  // Where there is a store, what is older than all that the ledger holds may stand in it.
  int has_store = call->control->settings.options->database_url[0] != '\0';
  int has_hole = has_store && is_under_way(call->control, call->slug, &document);
  long n_stored = add_from_store(call->control, call->slug, &document);
  add_held(held, &document);
  vc_transcript_end(&document.printer);
  long most = call->control->settings.stored_max;
  int is_complete = has_store ? n_stored >= 0 && n_stored < most && !has_hole : is_held_complete;
  if (held == NULL && n_stored <= 0) {
    vc_respond_error(call->request, n_stored < 0 ? 503 : 404,
                     n_stored < 0 ? "the database cannot be read" : "nothing is known of it");
  } else if (text.has_failed) {
    vc_respond_error(call->request, 503, "no memory");
  } else {
    vc_respond(call->request, 200, vc_transcript_content_type(format),
               is_complete ? "X-Verbacast-Complete: true\r\n" : "X-Verbacast-Complete: false\r\n",
               text.at != NULL ? text.at : "", text.size);
  }
  vc_text_fini(&text);
}

void transcript_page(struct call *call)
{
  struct vc_control *control = call->control;
  enum vc_transcript_format format;
  if (strncmp(call->rest, "/transcript.", 12) != 0 ||
      vc_transcript_parse_format(call->rest + 12, &format) != 0) {
    vc_respond_error(call->request, 404, "the formats are json, txt, srt and vtt");
    return;
  }
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_TRANSCRIPT, call->slug, 0);
  if (query == NULL || vc_query_status(query) == 503) {
    vc_query_unref(query);
    vc_respond_error(call->request, 503, "the node is too busy to be asked");
    return;
  }
  struct vc_buffer *reply = vc_query_status(query) == 200 ? vc_query_reply(query) : NULL;
  json_t *held = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  int is_lost = held == NULL && vc_query_status(query) == 200;
  int is_complete = held != NULL && vc_query_is_complete(query);
  vc_query_unref(query);
  if (is_lost) {
    vc_respond_error(call->request, 503, "no memory");
  } else {
    print(call, held, is_complete, format);
  }
  json_decref(held);
}
