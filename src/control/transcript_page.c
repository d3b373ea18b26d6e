// A session's finals: what the ledger holds, what the store has, what is on its way from the one to
// the other, and what Redis holds of the words of other nodes.
#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/store.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/transcript.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAKING_MAX 4 // transcripts at once
#define STORE_SLOW_MS 500

// Records in the order of their places, of which one is looked at.
struct source {
  json_t *list; // NULL: none
  size_t at;
  struct vc_record_fields next;
  int has_next;
};

enum {
  HELD,    // by the ledger
  WAITING, // in the journal, for the database
  REMOTE,  // in Redis
  N_SOURCES,
};

// What is printed: what the store gives, with what the sources have at their places before it.
struct document {
  struct vc_transcript_printer printer;
  struct source sources[N_SOURCES];
};

static void advance(struct source *source)
{
  source->has_next = 0;
  while (!source->has_next && source->at < json_array_size(source->list)) {
    const json_t *row = json_array_get(source->list, source->at++);
    source->has_next = vc_record_read(row, &source->next) == NULL &&
                       source->next.type == VC_RECORD_TYPE_TRANSCRIPT && source->next.is_final;
  }
}

static int is_before(const struct vc_record_fields *a, const struct vc_record_fields *b)
{
  return a->epoch < b->epoch || (a->epoch == b->epoch && a->seq < b->seq);
}

static int is_same_place(const struct source *source, const struct vc_record_fields *place)
{
  return source->has_next && !is_before(&source->next, place) && !is_before(place, &source->next);
}

static struct source *earliest(struct document *document)
{
  struct source *found = &document->sources[0];
  for (struct source *source = found + 1; source < document->sources + N_SOURCES; source++) {
    if (!found->has_next || (source->has_next && is_before(&source->next, &found->next))) {
      found = source;
    }
  }
  return found;
}

// Prints what a source has next, and moves all that have it on.
static void add_next(struct document *document, struct source *first)
{
  const struct vc_record_fields place = first->next; // its strings live in the list
  vc_transcript_add(&document->printer, &first->next);
  for (size_t i = 0; i < N_SOURCES; i++) {
    if (is_same_place(&document->sources[i], &place)) {
      advance(&document->sources[i]);
    }
  }
}

// Prints what the sources have up to a place, once where both have it; NULL: all. Returns: 1 when
// something of that place was printed.
static int add_until(struct document *document, const struct vc_record_fields *place)
{
  int is_there = 0;
  for (;;) {
    struct source *first = earliest(document);
    if (!first->has_next || (place != NULL && is_before(place, &first->next))) {
      return is_there;
    }
    is_there = place != NULL && is_same_place(first, place);
    add_next(document, first);
  }
}

static void add_stored(void *context, const struct vc_record_fields *fields)
{
  struct document *document = context;
  if (!add_until(document, fields)) {
    vc_transcript_add(&document->printer, fields);
  }
}

// A store that is away takes as long as a call waits: whoever asks meanwhile would find all places
// taken, also for what the ledger alone could tell. So it is left alone for a while.
static void let_rest(struct vc_control *control, uint64_t asked_ns)
{
  uint64_t now_ns = vc_clock_now_ns(control->settings.clock);
  if (now_ns - asked_ns >= STORE_SLOW_MS * VC_NS_PER_MS) {
    atomic_store_explicit(&control->store_rests_until_ns,
                          now_ns + control->settings.store_rest_ms * VC_NS_PER_MS,
                          memory_order_relaxed);
  }
}

// Returns: 1 when all that the store has of the slug was added.
static int add_from_store(struct vc_control *control, const char *slug, struct document *document)
{
  const char *url = control->settings.database_url;
  uint64_t asked_ns = vc_clock_now_ns(control->settings.clock);
  struct vc_store *store;
  struct vc_error error;
  long n = -1;
  if (asked_ns < atomic_load_explicit(&control->store_rests_until_ns, memory_order_relaxed)) {
    return 0;
  }
  if (vc_store_open_existing(&store, url, &error) == 0) {
    n = vc_store_read(store, slug, control->settings.stored_max, add_stored, document, &error);
    vc_store_close(&store);
  }
  if (n < 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("transcript.store"), VC_STR("why", error.text));
    let_rest(control, asked_ns);
  }
  return n >= 0 && n < control->settings.stored_max;
}

// Asked before the store, so that nothing is missed that goes there meanwhile. Returns: 1 when it
// is all.
static int find_waiting(struct vc_control *control, const char *slug, struct source *waiting)
{
  struct vc_query *query =
      ask_worker(control->journal, control->settings.journal, VC_QUERY_UNRELAYED, slug, 0);
  struct vc_buffer *reply = query != NULL ? vc_query_reply(query) : NULL;
  waiting->list =
      reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  int is_none = query != NULL && vc_query_status(query) == 404;
  int is_all = is_none || (waiting->list != NULL && vc_query_is_complete(query));
  vc_query_unref(query);
  advance(waiting);
  return is_all;
}

enum remote {
  REMOTE_AWAY,  // Redis did not answer
  REMOTE_NONE,  // there is nothing, or nobody to ask
  REMOTE_PART,  // what was said first is gone from there
  REMOTE_WHOLE, // all that was said on any node
};

static enum remote find_remote(struct vc_control *control, const char *slug, struct source *remote)
{
  if (control->watcher == NULL) {
    return REMOTE_NONE;
  }
  struct vc_query *query = fleet_transcript(control, slug);
  int status = query != NULL ? vc_query_status(query) : 503;
  struct vc_buffer *reply = status == 200 ? vc_query_reply(query) : NULL;
  int is_whole = reply != NULL && vc_query_is_complete(query);
  remote->list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  vc_query_unref(query);
  advance(remote);
  return status == 404          ? REMOTE_NONE
         : remote->list == NULL ? REMOTE_AWAY
         : is_whole             ? REMOTE_WHOLE
                                : REMOTE_PART;
}

// Returns: 1 when it is all there ever was.
static int fill(struct call *call, struct document *document, int is_held_complete)
{
  struct vc_control *control = call->control;
  advance(&document->sources[HELD]);
  enum remote remote = find_remote(control, call->slug, &document->sources[REMOTE]);
  int is_held = document->sources[HELD].list != NULL;
  int is_complete =
      remote == REMOTE_WHOLE || (is_held_complete && (is_held || remote == REMOTE_NONE));
  if (control->settings.database_url[0] != '\0') {
    // What the ledger let go, or never held, stands in one of the two.
    is_complete = find_waiting(control, call->slug, &document->sources[WAITING]);
    is_complete &= add_from_store(control, call->slug, document);
  }
  if (remote == REMOTE_PART && has_file_of_its_own(control)) {
    is_complete = 0; // what Redis let go of may stand in another node's file
  }
  add_until(document, NULL);
  json_decref(document->sources[WAITING].list);
  json_decref(document->sources[REMOTE].list);
  return is_complete && remote != REMOTE_AWAY;
}

struct answer {
  int status;
  const char *why; // it is not 200
  struct vc_text text;
  int is_complete;
};

static void print(struct call *call, json_t *held, int is_held_complete,
                  enum vc_transcript_format format, struct answer *answer)
{
  struct document document = {.sources[HELD].list = held};
  vc_transcript_begin(&document.printer, &answer->text, format, call->slug);
  answer->is_complete = fill(call, &document, is_held_complete || held == NULL);
  vc_transcript_end(&document.printer);
  if (held == NULL && document.printer.n == 0) {
    answer->status = answer->is_complete ? 404 : 503;
    answer->why = answer->is_complete ? "nothing is known of it"
                                      : "the database, the journal or Redis cannot be read";
  } else if (answer->text.has_failed) {
    answer->why = "no memory";
  } else {
    answer->status = 200;
  }
}

static void make(struct call *call, enum vc_transcript_format format, struct answer *answer)
{
  struct vc_control *control = call->control;
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_TRANSCRIPT, call->slug, 0);
  if (query == NULL || vc_query_status(query) == 503) {
    vc_query_unref(query);
    answer->why = TOO_BUSY;
    return;
  }
  struct vc_buffer *reply = vc_query_status(query) == 200 ? vc_query_reply(query) : NULL;
  json_t *held = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  int is_lost = held == NULL && vc_query_status(query) == 200;
  int is_complete = held != NULL && vc_query_is_complete(query);
  vc_query_unref(query);
  if (is_lost) {
    answer->why = "no memory";
  } else {
    print(call, held, is_complete, format, answer);
  }
  json_decref(held);
}

// While one is made it takes a core, the ledger's time and many times its own size of memory: more
// at once would be ready no sooner. Returns: 0, or -1: there was no place in time.
static int begin_making(struct vc_control *control)
{
  struct timespec limit;
  int status = 0;
  clock_gettime(CLOCK_MONOTONIC, &limit);
  limit.tv_sec += control->settings.making_wait_ms / 1000;
  limit.tv_nsec += (long)(control->settings.making_wait_ms % 1000) * 1000000;
  if (limit.tv_nsec >= 1000000000) {
    limit.tv_sec++;
    limit.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock(&control->mutex);
  while (control->n_making == MAKING_MAX && status == 0) {
    status = pthread_cond_timedwait(&control->made, &control->mutex, &limit);
  }
  int has_place = control->n_making < MAKING_MAX;
  control->n_making += has_place;
  pthread_mutex_unlock(&control->mutex);
  return has_place ? 0 : -1;
}

static void end_making(struct vc_control *control)
{
  pthread_mutex_lock(&control->mutex);
  control->n_making--;
  pthread_cond_signal(&control->made);
  pthread_mutex_unlock(&control->mutex);
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
  struct answer answer = {.status = 503, .why = "too many transcripts are asked for"};
  if (begin_making(control) == 0) {
    make(call, format, &answer);
    end_making(control);
  } else {
    vc_metric_add(control->slots, TRANSCRIPTS_REFUSED, 1);
  }
  if (answer.status == 200) {
    vc_respond(call->request, 200, vc_transcript_content_type(format),
               answer.is_complete ? "X-Verbacast-Complete: true\r\n"
                                  : "X-Verbacast-Complete: false\r\n",
               answer.text.at != NULL ? answer.text.at : "", answer.text.size);
  } else {
    vc_respond_error(call->request, answer.status, answer.why);
  }
  vc_text_fini(&answer.text);
}
