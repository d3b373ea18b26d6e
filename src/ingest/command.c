// RTMP commands of publishers, in any usual order. GStreamer's rtmp2sink sends releaseStream,
// FCPublish and publish with transaction id 0 and takes any answer to them for an error, so those
// are answered only when they carry a transaction.
#include <verbacast/base/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

#define WINDOW_SIZE 2500000
#define OUR_CHUNK_SIZE 4096
#define FIRST_CHUNK_SIZE 128 // until `connect` has told of ours
#define COMMAND_STREAM 3
#define STATUS_STREAM 5
#define MEDIA_STREAM_ID 1
#define SHOWN_MAX 63

struct command {
  const char *name;
  size_t name_size;
  double transaction;
  struct rtmp_amf rest; // the command object and what follows
};

static int is_named(const struct command *command, const char *name)
{
  return strlen(name) == command->name_size && memcmp(name, command->name, command->name_size) == 0;
}

static void write_command(struct connection *connection, uint8_t chunk_stream, uint32_t stream_id,
                          const struct rtmp_bytes *body)
{
  struct rtmp_message message = {
      .type = RTMP_COMMAND_AMF0, .stream_id = stream_id, .payload = body->at, .size = body->size};
  if (body->has_failed) {
    connection->unsent.has_failed = 1;
    return;
  }
  uint32_t chunk_size = connection->is_connected ? OUR_CHUNK_SIZE : FIRST_CHUNK_SIZE;
  rtmp_write(&connection->unsent, chunk_size, chunk_stream, &message);
}

static void write_status_object(struct rtmp_bytes *body, const char *level, const char *code,
                                const char *description)
{
  rtmp_amf_begin_object(body);
  rtmp_amf_write_key(body, "level");
  rtmp_amf_write_string(body, level);
  rtmp_amf_write_key(body, "code");
  rtmp_amf_write_string(body, code);
  rtmp_amf_write_key(body, "description");
  rtmp_amf_write_string(body, description);
}

void command_say_status(struct connection *connection, const char *level, const char *code,
                        const char *description)
{
  struct rtmp_bytes body = {0};
  rtmp_amf_write_string(&body, "onStatus");
  rtmp_amf_write_number(&body, 0);
  rtmp_amf_write_null(&body);
  write_status_object(&body, level, code, description);
  rtmp_amf_end_object(&body);
  write_command(connection, STATUS_STREAM, connection->stream_id, &body);
  rtmp_bytes_fini(&body);
}

int command_refuse(struct vc_worker *worker, struct connection *connection, enum metric metric,
                   const char *code, const char *why)
{
  command_say_status(connection, "error", code, why);
  vc_metric_add(vc_worker_slots(worker), metric, 1);
  refuse_log(&connection->address, why, connection->slug != NULL ? connection->slug : "");
  return 1;
}

static void say_result(struct connection *connection, double transaction)
{
  struct rtmp_bytes body = {0};
  rtmp_amf_write_string(&body, "_result");
  rtmp_amf_write_number(&body, transaction);
  rtmp_amf_write_null(&body);
  rtmp_amf_write_null(&body);
  write_command(connection, COMMAND_STREAM, 0, &body);
  rtmp_bytes_fini(&body);
}

static void say_connect(struct connection *connection, double transaction, int is_rejected,
                        const char *description)
{
  struct rtmp_bytes body = {0};
  rtmp_amf_write_string(&body, is_rejected ? "_error" : "_result");
  rtmp_amf_write_number(&body, transaction);
  rtmp_amf_begin_object(&body);
  rtmp_amf_write_key(&body, "fmsVer");
  rtmp_amf_write_string(&body, "FMS/3,5,7,7009");
  rtmp_amf_write_key(&body, "capabilities");
  rtmp_amf_write_number(&body, 31);
  rtmp_amf_end_object(&body);
  write_status_object(&body, is_rejected ? "error" : "status",
                      is_rejected ? "NetConnection.Connect.Rejected"
                                  : "NetConnection.Connect.Success",
                      description);
  rtmp_amf_write_key(&body, "objectEncoding");
  rtmp_amf_write_number(&body, 0);
  rtmp_amf_end_object(&body);
  write_command(connection, COMMAND_STREAM, 0, &body);
  rtmp_bytes_fini(&body);
}

// FNV-1a over what tells one publisher from another.
static uint64_t hash_more(uint64_t hash, const void *bytes, size_t size)
{
  const uint8_t *at = bytes;
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ at[i]) * UINT64_C(1099511628211);
  }
  return hash;
}

static uint64_t hash_member(uint64_t hash, const struct rtmp_amf_value *object, const char *key)
{
  struct rtmp_amf_value value;
  if (rtmp_amf_find(object, key, &value) == 1 && value.kind == RTMP_AMF_STRING) {
    hash = hash_more(hash, value.string, value.size);
  }
  return hash_more(hash, "", 1);
}

// How long a name or an application is without its query.
static size_t size_before_query(const struct rtmp_amf_value *name)
{
  const char *query = name->size > 0 ? memchr(name->string, '?', name->size) : NULL;
  return query != NULL ? (size_t)(query - name->string) : name->size;
}

// What a log shows of a name or an application: no query, nor one whose '?' was escaped or
// forgotten.
static const char *print_shown(const struct rtmp_amf_value *name, char shown[static SHOWN_MAX + 1])
{
  snprintf(shown, SHOWN_MAX + 1, "%.*s", (int)size_before_query(name),
           name->size > 0 ? name->string : "");
  shown[strcspn(shown, "&;=%")] = '\0';
  return shown;
}

// "live", "live/", "/live?x=y": slashes and the query do not count.
static int is_live_app(const struct rtmp_amf_value *app)
{
  const char *at = app->string;
  size_t size = size_before_query(app);
  while (size > 0 && at[size - 1] == '/') {
    size--;
  }
  while (size > 0 && at[0] == '/') {
    at++;
    size--;
  }
  return size == 4 && memcmp(at, "live", 4) == 0;
}

static int handle_connect(struct vc_worker *worker, struct connection *connection,
                          struct command *command)
{
  struct rtmp_amf_value object, app;
  if (connection->is_connected) {
    return -1; // once more would be an answer ten times as large as the question
  }
  if (rtmp_amf_next(&command->rest, &object) <= 0 || object.kind != RTMP_AMF_OBJECT) {
    return -1;
  }
  uint64_t hash = hash_more(UINT64_C(14695981039346656037), connection->address.bytes, 16);
  hash = hash_member(hash, &object, "flashVer");
  connection->identity = hash_member(hash, &object, "tcUrl");
  int has_app = rtmp_amf_find(&object, "app", &app) == 1 && app.kind == RTMP_AMF_STRING &&
                app.size <= NAME_MAX_BYTES;
  if (!has_app || !is_live_app(&app)) {
    char shown[SHOWN_MAX + 1];
    say_connect(connection, command->transaction, 1, "The application is called live.");
    vc_metric_add(vc_worker_slots(worker), REFUSED_APP, 1);
    refuse_log(&connection->address, "unknown application",
               has_app ? print_shown(&app, shown) : "");
    return 1;
  }
  rtmp_write_control(&connection->unsent, RTMP_WINDOW_SIZE, WINDOW_SIZE);
  rtmp_write_control(&connection->unsent, RTMP_PEER_BANDWIDTH, WINDOW_SIZE);
  rtmp_write_control(&connection->unsent, RTMP_SET_CHUNK_SIZE, OUR_CHUNK_SIZE);
  connection->is_connected = 1;
  say_connect(connection, command->transaction, 0, "Connected.");
  return 0;
}

static int handle_create_stream(struct connection *connection, const struct command *command)
{
  struct rtmp_bytes body = {0};
  rtmp_amf_write_string(&body, "_result");
  rtmp_amf_write_number(&body, command->transaction);
  rtmp_amf_write_null(&body);
  rtmp_amf_write_number(&body, MEDIA_STREAM_ID);
  write_command(connection, COMMAND_STREAM, 0, &body);
  rtmp_bytes_fini(&body);
  return 0;
}

// Cuts "name?query" and trims slashes. Returns: 0, or 1: empty, too long or no slug.
static int take_name(struct connection *connection, const struct rtmp_amf_value *name)
{
  const char *at = name->string;
  size_t size = size_before_query(name);
  const char *query = size < name->size ? at + size + 1 : "";
  size_t query_size = size < name->size ? name->size - size - 1 : 0;
  while (size > 0 && at[0] == '/') {
    at++;
    size--;
  }
  while (size > 0 && at[size - 1] == '/') {
    size--;
  }
  if (name->size > NAME_MAX_BYTES || !vc_slug_is_valid(at, size)) {
    return 1;
  }
  connection->slug = strndup(at, size);
  connection->query = strndup(query, query_size);
  return connection->slug == NULL || connection->query == NULL;
}

static int handle_publish(struct vc_worker *worker, struct connection *connection,
                          struct command *command, uint32_t stream_id)
{
  struct rtmp_amf_value object, name;
  if (!connection->is_connected || connection->stage != COMMANDS) {
    return -1;
  }
  if (rtmp_amf_next(&command->rest, &object) <= 0 || rtmp_amf_next(&command->rest, &name) <= 0 ||
      name.kind != RTMP_AMF_STRING) {
    return -1;
  }
  connection->stream_id = stream_id;
  if (take_name(connection, &name) != 0) {
    char shown[SHOWN_MAX + 1];
    command_say_status(connection, "error", "NetStream.Publish.BadName",
                       "A name is 1 to 128 letters, digits, '.', '_' or '-', the first a letter "
                       "or a digit.");
    vc_metric_add(vc_worker_slots(worker), REFUSED_NAME, 1);
    refuse_log(&connection->address, "bad name", print_shown(&name, shown));
    return 1;
  }
  connection->identity =
      hash_more(connection->identity, connection->query, strlen(connection->query));
  connection->is_moving = 1;
  return 0;
}

// The session ends; the connection is the publisher's to close (GStreamer's rtmp2sink takes ours
// for an error), or the idle time-out's.
static int handle_unpublish(struct vc_worker *worker, struct connection *connection)
{
  if (connection->session != NULL) {
    command_say_status(connection, "status", "NetStream.Unpublish.Success", "Unpublished.");
    ingest_session_end(worker, connection->session, VC_CLOSE_PUBLISHER_LEFT);
  }
  return 0;
}

static int handle_command(struct vc_worker *worker, struct connection *connection,
                          struct command *command, uint32_t stream_id)
{
  if (is_named(command, "connect")) {
    return handle_connect(worker, connection, command);
  }
  if (is_named(command, "createStream")) {
    return handle_create_stream(connection, command);
  }
  if (is_named(command, "publish")) {
    return handle_publish(worker, connection, command, stream_id);
  }
  if (is_named(command, "deleteStream") || is_named(command, "FCUnpublish") ||
      is_named(command, "closeStream")) {
    return handle_unpublish(worker, connection);
  }
  if (is_named(command, "play") || is_named(command, "play2")) {
    command_say_status(connection, "error", "NetStream.Play.StreamNotFound",
                       "This server takes publishers only.");
    vc_metric_add(vc_worker_slots(worker), REFUSED_NAME, 1);
    refuse_log(&connection->address, "it wants to play", "");
    return 1;
  }
  if (command->transaction != 0 &&
      (is_named(command, "releaseStream") || is_named(command, "FCPublish") ||
       is_named(command, "_checkbw"))) {
    say_result(connection, command->transaction);
  }
  return 0;
}

// Returns: 0 and the command, or -1.
static int parse_command(const struct rtmp_message *message, struct command *command)
{
  // AMF3's wrapper is one byte before AMF0.
  size_t from = message->type == RTMP_COMMAND_AMF3 && message->size > 0 ? 1 : 0;
  struct rtmp_amf_value name, transaction;
  if (message->size == from) {
    return -1;
  }
  command->rest = (struct rtmp_amf){message->payload + from, message->payload + message->size};
  if (rtmp_amf_next(&command->rest, &name) <= 0 || name.kind != RTMP_AMF_STRING) {
    return -1;
  }
  command->name = name.string;
  command->name_size = name.size;
  command->transaction = 0;
  int status = rtmp_amf_next(&command->rest, &transaction);
  if (status > 0 && transaction.kind == RTMP_AMF_NUMBER) {
    command->transaction = transaction.number;
  }
  return status < 0 ? -1 : 0;
}

static void answer_ping(struct connection *connection, const struct rtmp_message *message)
{
  if (message->size >= 6 && message->payload[0] == 0 && message->payload[1] == 6) {
    rtmp_write_user_control(&connection->unsent, 7, rtmp_read_u32(message->payload + 2));
  }
}

int command_handle(struct vc_worker *worker, struct connection *connection,
                   const struct rtmp_message *message)
{
  struct command command;
  switch (message->type) {
  case RTMP_COMMAND_AMF0:
  case RTMP_COMMAND_AMF3:
    return parse_command(message, &command) != 0
               ? -1
               : handle_command(worker, connection, &command, message->stream_id);
  case RTMP_USER_CONTROL:
    answer_ping(connection, message);
    return 0;
  default:
    return 0;
  }
}
