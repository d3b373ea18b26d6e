#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/store.h>
#include <verbacast/wire/json.h>

#include <stdlib.h>
#include <string.h>

void respond_json(struct call *call, int status, json_t *value)
{
  char *text = value != NULL ? vc_json_print(value) : NULL;
  json_decref(value);
  if (text == NULL) {
    vc_respond_error(call->request, 503, "no memory");
    return;
  }
  vc_respond(call->request, status, "application/json", "", text, strlen(text));
  free(text);
}

// --- publishers: those of a slug are one row of /sessions

// The row of a slug; without one of nobody's it is as well as its participants.
static json_t *publisher_row(json_t *rows, const char *slug)
{
  json_t *row = json_object_get(rows, slug);
  if (row == NULL) {
    row = json_pack("{s:n,s:b,s:n,s:[]}", "address", "connected", 0, "codec", "participants");
    json_object_set_new(rows, slug, row);
  }
  return row;
}

static void add_nobody(json_t *row, json_t *publisher)
{
  json_t *participants = json_incref(json_object_get(row, "participants"));
  json_object_update(row, publisher);
  json_object_set_new(row, "participants", participants);
}

static void add_participant(json_t *row, const char *participant, json_t *publisher)
{
  json_t *member = json_pack("{s:s}", "participant", participant);
  json_object_update(member, publisher);
  json_array_append_new(json_object_get(row, "participants"), member);
  if (json_is_null(json_object_get(row, "address"))) {
    int is_connected = vc_json_true(row, "connected") || vc_json_true(publisher, "connected");
    json_object_set_new(row, "connected", json_boolean(is_connected));
    json_object_set(row, "codec", json_object_get(publisher, "codec"));
  }
}

// From "slug/participant" -> [publisher]. Returns: a new reference, slug -> row.
static json_t *publisher_rows(const json_t *publishers)
{
  const char *key;
  json_t *list, *rows = json_object();
  json_object_foreach((json_t *)publishers, key, list)
  {
    char slug[VC_SLUG_MAX + 1];
    const char *slash = strchr(key, '/');
    size_t size = slash != NULL ? (size_t)(slash - key) : sizeof slug;
    if (size < sizeof slug) {
      memcpy(slug, key, size);
      slug[size] = '\0';
      json_t *row = publisher_row(rows, slug), *publisher = json_array_get(list, 0);
      slash[1] == '\0' ? add_nobody(row, publisher) : add_participant(row, slash + 1, publisher);
    }
  }
  return rows;
}

// The ledger's list, each row with the publisher's address and what the other stages know. Returns:
// a new reference, or NULL: the stages did not answer.
static json_t *list_sessions(struct vc_control *control)
{
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_SESSIONS, "", 0);
  struct vc_buffer *reply = query != NULL ? vc_query_reply(query) : NULL;
  json_t *list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  json_t *publishers = ask_all(control->ingest, control->settings.ingest, VC_QUERY_PUBLISHERS);
  vc_query_unref(query);
  if (list == NULL || publishers == NULL) {
    json_decref(list);
    json_decref(publishers);
    return NULL;
  }
  size_t i;
  json_t *row, *rows = publisher_rows(publishers);
  json_array_foreach(list, i, row)
  {
    json_t *publisher = json_object_get(rows, vc_json_string(row, "slug", ""));
    json_object_set_new(row, "publisher", publisher != NULL ? json_incref(publisher) : json_null());
  }
  json_decref(rows);
  json_decref(publishers);
  return list;
}

void sessions_page(struct call *call)
{
  const char *why = TOO_BUSY;
  json_t *list = list_sessions(call->control);
  if (list != NULL && wants(call, "all")) {
    list = fleet_sessions(call->control, list, &why);
  }
  if (list == NULL) {
    vc_respond_error(call->request, 503, why);
    return;
  }
  respond_json(call, 200, list);
}

struct vc_buffer *vc_control_sessions(struct vc_control *control)
{
  json_t *list = list_sessions(control), *row;
  size_t i;
  json_array_foreach(list, i, row)
  {
    json_object_set_new(row, "node", json_string(control->settings.node));
  }
  char *text = list != NULL ? vc_json_print(list) : NULL;
  struct vc_buffer *buffer = text != NULL ? vc_buffer_copy(text, strlen(text)) : NULL;
  json_decref(list);
  free(text);
  return buffer;
}

// --- erasure

static int has_kafka(const struct vc_control *control)
{
  return control->settings.kafka_topic != NULL && control->settings.kafka_topic[0] != '\0';
}

static const char *erase_store(struct vc_control *control, const char *slug, int64_t epoch,
                               long *n_finals)
{
  struct vc_store *store;
  struct vc_error error;
  const char *url = control->settings.database_url;
  // With Kafka the sink makes it, and hears of the erasure.
  if (url[0] == '\0' || (has_kafka(control) && !vc_store_exists(url))) {
    return NULL;
  }
  if (vc_store_open(&store, url, &error) != 0) {
    vc_log(VC_LOG_ERROR, VC_EVENT("erase.failed"), VC_STR("why", error.text));
    return "the database could not be opened";
  }
  *n_finals = vc_store_erase(store, slug, epoch, vc_clock_unix_ms(control->settings.clock), &error);
  vc_store_close(&store);
  if (*n_finals < 0) {
    vc_log(VC_LOG_ERROR, VC_EVENT("erase.failed"), VC_STR("why", error.text));
    *n_finals = 0;
    return "the database did not delete it";
  }
  return NULL;
}

static const char *erase_journal(struct vc_control *control, const char *slug, int64_t epoch)
{
  struct vc_query *query =
      ask_worker(control->journal, control->settings.journal, VC_QUERY_ERASE, slug, epoch);
  int is_erased = query != NULL && vc_query_status(query) == 200;
  vc_query_unref(query);
  return is_erased ? NULL : "the journal did not delete it";
}

static int add_failure(json_t *remains, const char *where, const char *why)
{
  if (why == NULL) {
    return 0;
  }
  json_array_append_new(remains, json_pack("{s:s,s:s}", "where", where, "why", why));
  return -1;
}

// What was sent cannot be called back; what other nodes have still to send comes there too, and the
// sink keeps it out of the database.
static void add_topics(const struct vc_control *control, json_t *remains)
{
  const char *topic = control->settings.kafka_topic;
  if (has_kafka(control)) {
    json_array_append_new(remains,
                          json_pack("{s:s,s:[s,s+,s+,s+],s:s}", "where", "kafka", "topics", topic,
                                    topic, ".sessions", topic, ".partial", topic, ".dead", "why",
                                    "topics keep what they have until their retention"));
  }
}

int has_file_of_its_own(const struct vc_control *control)
{
  return control->publisher != NULL && !has_kafka(control) &&
         vc_store_is_file(control->settings.database_url);
}

// Other nodes hear of the erasure by Redis and forget what they hold in memory; of files that they
// write themselves nobody tells them.
static void add_files(const struct vc_control *control, json_t *remains)
{
  if (has_file_of_its_own(control)) {
    add_failure(remains, "files", "each node's database is a file of its own: ask each of them");
  }
}

// An audit line: who, what, how much; no text.
static void log_erasure(const struct call *call, int64_t epoch, long n_finals, int is_whole)
{
  char address[VC_ADDRESS_TEXT_MAX];
  vc_address_print(&call->request->client, address);
  vc_log(VC_LOG_INFO, VC_EVENT("erase"), VC_STR("session", call->slug), VC_INT("epoch", epoch),
         VC_INT("finals", n_finals), VC_STR("done", is_whole ? "all" : "part"),
         VC_STR("address", address), VC_STR("shown", access_shown(call)));
}

// Everything of the slug that began before now, up to the epoch that the ledger says; what begins
// meanwhile has a larger one.
void erase_page(struct call *call)
{
  struct vc_control *control = call->control;
  int64_t epoch = vc_clock_unix_ms(control->settings.clock);
  // First, so that one that is live elsewhere is told before anything is gone.
  const char *fleet = fleet_erase(control, call->slug, epoch);
  if (fleet != NULL && strcmp(fleet, FLEET_LIVE) == 0) {
    vc_respond_error(call->request, 409, "the session is live on another node");
    return;
  }
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_ERASE, call->slug, epoch);
  int status = query != NULL ? vc_query_status(query) : 503;
  epoch = query != NULL ? vc_query_number(query) : epoch;
  vc_query_unref(query);
  if (status == 409) {
    vc_respond_error(call->request, 409, "the session is live");
    return;
  }
  if (status != 200 && status != 404) {
    vc_respond_error(call->request, 503, TOO_BUSY);
    return;
  }
  long n_finals = 0;
  json_t *remains = json_array();
  int is_whole =
      add_failure(remains, "database", erase_store(control, call->slug, epoch, &n_finals)) == 0;
  is_whole &= add_failure(remains, "journal", erase_journal(control, call->slug, epoch)) == 0;
  is_whole &= add_failure(remains, "redis", fleet) == 0;
  add_topics(control, remains);
  add_files(control, remains);
  log_erasure(call, epoch, n_finals, is_whole);
  respond_json(call, is_whole ? 200 : 503,
               json_pack("{s:s,s:b,s:I,s:o}", "session", call->slug, "erased", is_whole, "finals",
                         (json_int_t)n_finals, "remains", remains));
}

// --- kick

static int kick(struct vc_control *control, const char *slug, const char *participant,
                const char *what)
{
  if (strcmp(what, "publisher") == 0) {
    struct vc_query *query = ask_ingest_of(control, VC_QUERY_KICK_PUBLISHER, slug, participant);
    int status = query != NULL ? vc_query_status(query) : 503;
    vc_query_unref(query);
    return status;
  }
  int status = 404;
  for (uint32_t i = 0; i < vc_stage_n_workers(control->settings.broadcast); i++) {
    struct vc_query *query = ask_one(control->broadcast, i, VC_QUERY_KICK_VIEWERS, slug);
    int answer = query != NULL ? vc_query_status(query) : 503;
    status = answer == 200 || (answer == 503 && status == 404) ? answer : status;
    vc_query_unref(query);
  }
  return status;
}

void kick_page(struct call *call)
{
  const char *why = NULL;
  json_t *body = vc_json_parse(call->body != NULL ? call->body : "", call->body_size, &why);
  const char *slug = vc_json_string(body, "session", "");
  const char *what =
      json_object_get(body, "what") != NULL ? vc_json_string(body, "what", "") : "publisher";
  const char *participant =
      json_object_get(body, "participant") != NULL ? vc_json_string(body, "participant", "") : NULL;
  int is_known =
      strcmp(what, "publisher") == 0 || (strcmp(what, "viewers") == 0 && participant == NULL);
  int is_somebody =
      participant == NULL || vc_participant_is_valid(participant, strlen(participant));
  if (body == NULL || !vc_slug_is_valid(slug, strlen(slug)) || !is_known || !is_somebody) {
    vc_respond_error(call->request, 400,
                     body == NULL ? why
                                  : "the body is {\"session\": NAME, \"what\": \"publisher\" or "
                                    "\"viewers\"}, a publisher's with \"participant\" where only "
                                    "that one is meant");
  } else {
    int status = kick(call->control, slug, participant != NULL ? participant : "", what);
    if (status == 200) {
      respond_json(call, 200, json_pack("{s:s,s:s}", "session", slug, "kicked", what));
    } else {
      vc_respond_error(call->request, status,
                       status == 404 ? "there is nobody to be closed" : "the node is too busy");
    }
  }
  json_decref(body);
}
