#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "room.h"

#define READS_PER_TURN 64 // of 16 KiB each: the worker has other things to do
#define NUMBER_MAX 24

static struct vc_slots *slots_of(const struct redis_link *link)
{
  return vc_worker_slots(link->worker);
}

static uint64_t now_of(const struct redis_link *link)
{
  return vc_worker_now_ns(link->worker);
}

int link_is_up(const struct redis_link *link)
{
  return link->connection != NULL && !link->is_broken;
}

int link_has_room(const struct redis_link *link)
{
  return link_is_up(link) && link->n_calls < LINK_UNANSWERED_MAX / 2 &&
         link->out_end - link->out_begin < LINK_UNSENT_MAX / 2;
}

static void tell_sizes(const struct redis_link *link)
{
  if (link->ops->role == ROLE_PUBLISH) {
    vc_metric_set(slots_of(link), UNANSWERED, (int64_t)link->n_calls);
    vc_metric_set(slots_of(link), UNSENT_BYTES, (int64_t)(link->out_end - link->out_begin));
  }
}

// --- giving it up

static void answer_all_with_nothing(struct redis_link *link)
{
  while (link->n_calls > 0) {
    const struct redis_call call = link->calls[link->first_call];
    link->first_call = (link->first_call + 1) % LINK_UNANSWERED_MAX;
    link->n_calls--;
    if (call.answered != NULL) {
      call.answered(link, &call, NULL);
    }
  }
}

static void drop_connection(struct redis_link *link)
{
  struct redis_connection *connection = link->connection;
  link->connection = NULL;
  vc_worker_unwatch(link->worker, &link->watch);
  vc_item_destroy(&connection->item.owned.item);
  link->out_begin = link->out_end = 0;
  link->is_broken = 0;
}

static void give_up(struct redis_link *link)
{
  drop_connection(link);
  vc_metric_add(slots_of(link), DISCONNECTS, 1);
  redis_connect_down(link->redis, link->ops->role, link->why);
  answer_all_with_nothing(link);
  tell_sizes(link);
  redis_connect_ask(link->redis, link->ops->role);
  link->ops->down(link);
}

void link_break(struct redis_link *link, const char *format, ...)
{
  if (!link_is_up(link)) {
    return;
  }
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(link->why, sizeof link->why, format, arguments);
  va_end(arguments);
  link->is_broken = 1;
}

// Where no callback is under way.
static void give_up_when_broken(struct redis_link *link)
{
  if (link->connection != NULL && link->is_broken && link->depth == 0) {
    give_up(link);
  }
}

// --- what goes out

static int make_room(struct redis_link *link, size_t size)
{
  size_t used = link->out_end - link->out_begin;
  if (used + size > LINK_UNSENT_MAX) {
    return 1;
  }
  if (link->out_end + size <= link->out_capacity) {
    return 0;
  }
  if (used + size > link->out_capacity / 2) {
    size_t capacity = link->out_capacity > 0 ? link->out_capacity : 65536;
    while (capacity < 2 * (used + size)) {
      capacity *= 2;
    }
    char *out = malloc(capacity);
    if (out == NULL) {
      return 1;
    }
    if (used > 0) {
      memcpy(out, link->out + link->out_begin, used);
    }
    free(link->out);
    link->out = out;
    link->out_capacity = capacity;
  } else {
    memmove(link->out, link->out + link->out_begin, used);
  }
  link->out_begin = 0;
  link->out_end = used;
  return 0;
}

static void append(struct redis_link *link, const char *bytes, size_t size)
{
  memcpy(link->out + link->out_end, bytes, size);
  link->out_end += size;
}

// "*3\r\n" and "$11\r\n"
static void append_number(struct redis_link *link, char mark, size_t number)
{
  char text[NUMBER_MAX];
  int n = snprintf(text, sizeof text, "%c%zu\r\n", mark, number);
  append(link, text, (size_t)n);
}

static size_t size_of(const char *const *arguments, const size_t *sizes, int i)
{
  return sizes != NULL ? sizes[i] : strlen(arguments[i]);
}

static int append_command(struct redis_link *link, int n, const char *const *arguments,
                          const size_t *sizes)
{
  size_t size = NUMBER_MAX;
  for (int i = 0; i < n; i++) {
    size += size_of(arguments, sizes, i) + NUMBER_MAX + 2;
  }
  if (make_room(link, size) != 0) {
    return 1;
  }
  append_number(link, '*', (size_t)n);
  for (int i = 0; i < n; i++) {
    append_number(link, '$', size_of(arguments, sizes, i));
    append(link, arguments[i], size_of(arguments, sizes, i));
    append(link, "\r\n", 2);
  }
  return 0;
}

static int send_command(struct redis_link *link, const struct redis_call *call, int n,
                        const char *const *arguments, const size_t *sizes)
{
  if (link->n_calls == LINK_UNANSWERED_MAX || append_command(link, n, arguments, sizes) != 0) {
    vc_metric_add(slots_of(link), LINK_FULL, 1);
    return 1;
  }
  if (call != NULL) {
    struct redis_call *kept =
        &link->calls[(link->first_call + link->n_calls) % LINK_UNANSWERED_MAX];
    *kept = *call;
    kept->sent_ns = now_of(link);
    link->n_calls++;
  }
  return 0;
}

int link_send(struct redis_link *link, const struct redis_call *call, int n,
              const char *const *arguments, const size_t *sizes)
{
  return link_is_up(link) ? send_command(link, call, n, arguments, sizes) : 1;
}

// --- scripts

void run_init(struct redis_run *run, const struct vc_redis *redis, enum redis_script script)
{
  run->redis = redis;
  run->script = script;
  run->n_keys = run->n = 0;
}

void run_text(struct redis_run *run, const char *text, size_t size)
{
  assert(run->n < RUN_ARGUMENTS_MAX);
  run->at[run->n] = text;
  run->sizes[run->n++] = size;
}

void run_key(struct redis_run *run, const char *kind, const char *slug)
{
  assert(run->n == run->n_keys && run->n < RUN_ARGUMENTS_MAX);
  const char *key = redis_key(run->redis, run->room[run->n], kind, slug);
  run_text(run, key, strlen(key));
  run->n_keys++;
}

void run_init_owner(struct redis_run *run, const struct vc_redis *redis, enum redis_script script,
                    const char *slug)
{
  run_init(run, redis, script);
  run_key(run, "owner", slug);
  run_key(run, "history", slug);
  run_key(run, "ctl", slug);
  run_text(run, redis->node_json, strlen(redis->node_json));
}

void run_number(struct redis_run *run, int64_t number)
{
  assert(run->n < RUN_ARGUMENTS_MAX);
  char *text = run->room[run->n];
  int n = snprintf(text, sizeof run->room[0], "%" PRId64, number);
  run_text(run, text, (size_t)n);
}

int link_run(struct redis_link *link, const struct redis_call *call, const struct redis_run *run)
{
  const char *at[RUN_ARGUMENTS_MAX + 3];
  size_t sizes[RUN_ARGUMENTS_MAX + 3];
  char n_keys[NUMBER_MAX];
  if (!link_is_up(link)) {
    return 1;
  }
  int n = snprintf(n_keys, sizeof n_keys, "%d", run->n_keys);
  const char *const first[] = {"EVALSHA", link->connection->shas[run->script], n_keys};
  const size_t first_sizes[] = {7, REDIS_SHA_SIZE - 1, (size_t)n};
  memcpy(at, first, sizeof first);
  memcpy(sizes, first_sizes, sizeof first_sizes);
  memcpy(at + 3, run->at, (size_t)run->n * sizeof *at);
  memcpy(sizes + 3, run->sizes, (size_t)run->n * sizeof *sizes);
  return send_command(link, call, 3 + run->n, at, sizes);
}

static const redisReply *element(const redisReply *reply, size_t i, int type)
{
  return reply->type == REDIS_REPLY_ARRAY && i < reply->elements && reply->element[i]->type == type
             ? reply->element[i]
             : NULL;
}

int64_t reply_number(const redisReply *reply, size_t i)
{
  const redisReply *found = element(reply, i, REDIS_REPLY_INTEGER);
  return found != NULL ? found->integer : 0;
}

const char *reply_text(const redisReply *reply, size_t i)
{
  const redisReply *found = element(reply, i, REDIS_REPLY_STRING);
  return found != NULL ? found->str : "";
}

int redis_is_number(int64_t number)
{
  return number >= 0 && number <= VC_EPOCH_MAX;
}

int reply_position(const redisReply *reply, size_t i, int64_t own, struct vc_position *position)
{
  int64_t epoch = reply_number(reply, i), seq = reply_number(reply, i + 1);
  *position = (struct vc_position){epoch, (uint64_t)seq};
  return redis_is_number(epoch) && (epoch != own || redis_is_number(seq)) ? 0 : -1;
}

static void loaded(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  link->n_loading--;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    link_take_error(link, reply);
    link_break(link, "scripts cannot be loaded: %.90s", reply->str);
  }
}

void link_load_scripts(struct redis_link *link)
{
  const struct redis_call call = {.answered = loaded};
  if (link->n_loading > 0) { // what was sent before that is refused as well
    return;
  }
  for (size_t i = 0; i < N_SCRIPTS; i++) {
    const char *const arguments[] = {"SCRIPT", "LOAD", redis_scripts[i]};
    if (link_send(link, &call, 3, arguments, NULL) != 0) {
      link_break(link, "no room to load the scripts again");
      return;
    }
    link->n_loading++;
  }
}

// --- the socket

static void watch_for(struct redis_link *link)
{
  uint32_t events = (link->is_paused ? 0 : (uint32_t)EPOLLIN) |
                    (link->out_end > link->out_begin ? (uint32_t)EPOLLOUT : 0);
  if (link_is_up(link) && events != link->events) {
    link->events = events;
    if (vc_worker_rewatch(link->worker, &link->watch, events) != 0) {
      link_break(link, "epoll: %s", strerror(errno));
    }
  }
}

static void write_out(struct redis_link *link)
{
  while (link_is_up(link) && link->out_end > link->out_begin) {
    size_t size = link->out_end - link->out_begin;
    ssize_t n = send(link->watch.fd, link->out + link->out_begin, size, MSG_NOSIGNAL);
    if (n > 0) {
      link->out_begin += (size_t)n;
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else if (n < 0 && errno == EAGAIN) {
      break;
    } else {
      link_break(link, "write: %s", n < 0 ? strerror(errno) : "nothing was taken");
    }
  }
  watch_for(link);
}

// In a connection that is subscribed the answer to a PING looks like a message.
static int is_pong(const redisReply *reply)
{
  return (reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "PONG") == 0) ||
         (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
          reply->element[0]->type == REDIS_REPLY_STRING &&
          strcmp(reply->element[0]->str, "pong") == 0);
}

static void take_ping(struct redis_link *link, uint64_t sent_ns)
{
  uint64_t now = now_of(link);
  vc_metric_record(slots_of(link), PING_MS, (double)(now - sent_ns) / (double)VC_NS_PER_MS, now);
}

static void answer_first(struct redis_link *link, const redisReply *reply)
{
  if (link->n_calls == 0) {
    link_break(link, "a reply that nothing was asked for");
    return;
  }
  const struct redis_call call = link->calls[link->first_call];
  link->first_call = (link->first_call + 1) % LINK_UNANSWERED_MAX;
  link->n_calls--;
  call.answered(link, &call, reply);
}

static void take_reply(struct redis_link *link, const redisReply *reply)
{
  if (link->ops->role != ROLE_SUBSCRIBE) {
    answer_first(link, reply);
  } else if (is_pong(reply) && link->is_ping_under_way) {
    link->is_ping_under_way = 0;
    take_ping(link, link->pinged_ns);
  } else {
    link->ops->pushed(link, reply);
  }
}

static void take_replies(struct redis_link *link)
{
  redisReader *reader = link->connection->context->reader;
  link->depth++;
  while (!link->is_broken && !link->is_paused) {
    void *reply = NULL;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
      link_break(link, "no Redis protocol: %s", reader->errstr);
    }
    if (reply == NULL) {
      break;
    }
    take_reply(link, reply);
    freeReplyObject(reply);
  }
  link->depth--;
  if (reader->len - reader->pos > LINK_REPLY_MAX) {
    link_break(link, "a reply of more than %zu MiB", LINK_REPLY_MAX >> 20);
  }
}

// Returns: how many bytes came.
static size_t read_some(struct redis_link *link)
{
  redisContext *context = link->connection->context;
  size_t before = context->reader->len;
  if (redisBufferRead(context) != REDIS_OK) {
    link_break(link, "%s", context->errstr);
    return 0;
  }
  return context->reader->len - before;
}

static void read_in(struct redis_link *link)
{
  for (int i = 0; i < READS_PER_TURN && link_is_up(link) && !link->is_paused; i++) {
    if (read_some(link) == 0) {
      break;
    }
    link->heard_ns = now_of(link);
    take_replies(link);
  }
}

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct redis_link *link = (struct redis_link *)watch;
  if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && !link->is_paused) {
    read_in(link);
  }
  if (events & (EPOLLERR | EPOLLHUP) && link->is_paused) {
    link_break(link, "the connection broke"); // it would be told for ever
  }
  if (events & EPOLLOUT) {
    write_out(link);
  }
  give_up_when_broken(link);
}

void link_pause(struct redis_link *link, int is_paused)
{
  if (link->is_paused != is_paused) {
    link->is_paused = is_paused;
    link->heard_ns = now_of(link);
    watch_for(link);
  }
}

// --- its life

int link_init(struct redis_link *link, struct vc_redis *redis, struct vc_worker *worker,
              const struct redis_link_ops *ops, void *owner)
{
  *link = (struct redis_link){.ops = ops, .redis = redis, .worker = worker, .owner = owner};
  link->calls = malloc(LINK_UNANSWERED_MAX * sizeof *link->calls);
  if (link->calls == NULL) {
    return -1;
  }
  redis_connect_ask(redis, ops->role);
  return 0;
}

void link_close(struct redis_link *link)
{
  if (link->connection != NULL) {
    drop_connection(link);
    answer_all_with_nothing(link);
  }
}

void link_fini(struct redis_link *link)
{
  if (link->connection != NULL) {
    drop_connection(link);
  }
  free(link->calls);
  free(link->out);
  link->calls = NULL;
  link->out = NULL;
}

void link_take(struct redis_link *link, struct redis_connection *connection)
{
  if (link->connection != NULL) { // one was asked for only when there was none
    vc_item_destroy(&connection->item.owned.item);
    return;
  }
  link->watch = (struct vc_watch){.fd = connection->context->fd, .ready = ready};
  link->connection = connection;
  link->is_broken = link->is_paused = link->is_ping_under_way = 0;
  link->heard_ns = link->pinged_ns = now_of(link);
  link->events = EPOLLIN;
  if (vc_worker_watch(link->worker, &link->watch, EPOLLIN) != 0) {
    link->connection = NULL;
    vc_item_destroy(&connection->item.owned.item);
    redis_connect_ask(link->redis, link->ops->role);
    return;
  }
  redis_connect_up(link->redis, link->ops->role);
  link->depth++;
  link->ops->up(link);
  link->depth--;
}

static void pinged(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    link_take_error(link, reply);
  } else if (reply != NULL) {
    take_ping(link, call->sent_ns);
  }
}

static void ping(struct redis_link *link)
{
  const struct redis_call call = {.answered = pinged};
  const char *const arguments[] = {"PING"};
  int is_subscribe = link->ops->role == ROLE_SUBSCRIBE;
  if (is_subscribe && link->is_ping_under_way) {
    return;
  }
  if (link_send(link, is_subscribe ? NULL : &call, 1, arguments, NULL) == 0) {
    link->pinged_ns = now_of(link);
    link->is_ping_under_way = is_subscribe;
  }
}

// What came before a pause and was not read on since.
static void take_rest(struct redis_link *link)
{
  const redisReader *reader = link_is_up(link) ? link->connection->context->reader : NULL;
  if (reader != NULL && !link->is_paused && reader->len > reader->pos) {
    take_replies(link);
  }
}

void link_turned(struct redis_link *link)
{
  take_rest(link);
  if (link_is_up(link) && link->out_end > link->out_begin) {
    write_out(link);
  }
  give_up_when_broken(link);
  tell_sizes(link);
}

void link_tick(struct redis_link *link)
{
  uint64_t now = now_of(link);
  if (!link_is_up(link)) {
    give_up_when_broken(link);
    return;
  }
  if (link->is_paused) {
    link->heard_ns = now;
  }
  if (now - link->heard_ns >= LINK_SILENT_MS * VC_NS_PER_MS) {
    link_break(link, "silent for %d ms", LINK_SILENT_MS);
  } else if (now - link->pinged_ns >= LINK_PING_MS * VC_NS_PER_MS) {
    ping(link);
    write_out(link);
  }
  give_up_when_broken(link);
}

// --- errors

static const struct {
  const char *code;
  enum metric metric;
  int is_final; // another connection may fare better, this one will not
} error_kinds[] = {
    {"OOM", ERRORS_OOM, 0},
    {"READONLY", ERRORS_READONLY, 1},
    {"LOADING", ERRORS_LOADING, 0},
    {"MISCONF", ERRORS_MISCONF, 0},
    {"NOAUTH", ERRORS_AUTH, 1},
    {"WRONGPASS", ERRORS_AUTH, 1},
    {"ERR The user executing the script", ERRORS_AUTH, 0},
    {"NOPERM", ERRORS_AUTH, 0},
    {"BUSY", ERRORS_BUSY, 0},
    {"NOSCRIPT", ERRORS_NOSCRIPT, 0},
};

// An older Redis tells an error within a script behind words of its own: "ERR Error running script
// …: -OOM command not allowed".
static int is_error(const char *text, const char *code)
{
  size_t size = strlen(code);
  const char *at = text;
  if (strncmp(text, "ERR Error running script", 24) == 0) {
    char marked[16];
    snprintf(marked, sizeof marked, "-%s ", code);
    at = strstr(text, marked);
    at = at != NULL ? at + 1 : "";
  }
  return strncmp(at, code, size) == 0 && (at[size] == ' ' || at[size] == '\0');
}

enum metric redis_error_metric(const char *text, int *is_final)
{
  for (size_t i = 0; i < sizeof error_kinds / sizeof *error_kinds; i++) {
    if (is_error(text, error_kinds[i].code)) {
      *is_final = error_kinds[i].is_final;
      return error_kinds[i].metric;
    }
  }
  *is_final = 0;
  return ERRORS_OTHER;
}

enum redis_error link_take_error(struct redis_link *link, const redisReply *reply)
{
  int is_final;
  enum metric metric = redis_error_metric(reply->str, &is_final);
  vc_metric_add(slots_of(link), metric, 1);
  if (metric == ERRORS_NOSCRIPT) {
    return ERROR_NOSCRIPT;
  }
  redis_trouble(link->redis, TROUBLE_REFUSED, "%.100s", reply->str);
  if (is_final) {
    link_break(link, "%.100s", reply->str);
  }
  return ERROR_OTHER;
}
