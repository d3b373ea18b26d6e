// Connections are made here, one after the other, because that blocks: a name is resolved, a
// password is sent, scripts are loaded. A worker that has lost its connection asks for another and
// goes on with its work meanwhile.
#include <verbacast/base/backoff.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "room.h"

#define TIMEOUT_MS 2000 // of each step
#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 2000
#define SHOW_MS 3000
#define LOG_INTERVAL_MS 10000

static const char *const role_names[N_ROLES] = {"publish", "watch", "subscribe"};

struct connector {
  struct vc_redis *redis;
  struct redis_address address; // read anew for each try: a file may have changed
  uint64_t retry_ms;            // 0: the last try went well
  uint64_t retry_ns[N_ROLES];
  uint64_t show_ns;
  int has_told_policy; // that it cannot be known
  struct vc_log_limit limit;
};

static uint64_t now_ns(void)
{
  return vc_clock_now_ns(&vc_clock_system);
}

// --- one connection

// Where a step fails: what is in the way.
static int refuse(struct vc_error *error, const struct redis_address *address,
                  const redisContext *context, const char *step)
{
  const char *why = context == NULL ? "no memory"
                    : context->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EINPROGRESS)
                        ? "no answer within 2 s"
                        : context->errstr;
  return vc_error_set(error, "%s: %s: %s", address->shown, step, why);
}

static int remember(struct vc_redis *redis, int fd)
{
  pthread_mutex_lock(&redis->mutex);
  redis->dialing_fd = fd;
  int is_stopping = redis->is_stopping;
  pthread_mutex_unlock(&redis->mutex);
  return is_stopping;
}

// A step that has no answer within its time ends; so does one that the stop cuts short.
// Gives: the reply, or NULL and the error; an error reply is one only where `must_work`.
static redisReply *ask(struct connector *connector, redisContext *context, const char *step,
                       int must_work, struct vc_error *error, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  redisReply *reply = redisvCommand(context, format, arguments);
  va_end(arguments);
  if (reply == NULL) {
    refuse(error, &connector->address, context, step);
  } else if (reply->type == REDIS_REPLY_ERROR && must_work) {
    int is_final;
    vc_metric_add(connector->redis->connect_slots, redis_error_metric(reply->str, &is_final), 1);
    vc_error_set(error, "%s: %s: %.100s", connector->address.shown, step, reply->str);
    freeReplyObject(reply);
    return NULL;
  }
  return reply;
}

static int expect(redisReply *reply)
{
  int status = reply != NULL ? 0 : -1;
  if (reply != NULL) {
    freeReplyObject(reply);
  }
  return status;
}

static int log_in(struct connector *connector, redisContext *context, struct vc_error *error)
{
  const struct redis_address *address = &connector->address;
  if (address->password[0] == '\0') {
    return 0;
  }
  return expect(address->user[0] != '\0'
                    ? ask(connector, context, "AUTH", 1, error, "AUTH %s %s", address->user,
                          address->password)
                    : ask(connector, context, "AUTH", 1, error, "AUTH %s", address->password));
}

static int select_database(struct connector *connector, redisContext *context,
                           struct vc_error *error)
{
  // Also the first command where there is no password: NOAUTH and LOADING are told here.
  return expect(
      ask(connector, context, "SELECT", 1, error, "SELECT %d", connector->address.database));
}

// A replica answers reads, and would refuse what is said on it. Who may not ask finds out then.
static int check_role(struct connector *connector, redisContext *context, struct vc_error *error)
{
  redisReply *reply = ask(connector, context, "ROLE", 0, error, "ROLE");
  if (reply == NULL) {
    return -1;
  }
  int is_replica = strcmp(reply_text(reply, 0), "slave") == 0;
  freeReplyObject(reply);
  if (!is_replica) {
    return 0;
  }
  vc_metric_add(connector->redis->connect_slots, ERRORS_READONLY, 1);
  return vc_error_set(error, "%s: it is a replica, which takes no writes",
                      connector->address.shown);
}

// All keys of ours expire, so that a Redis that evicts takes them first.
static int check_policy(struct connector *connector, redisContext *context, struct vc_error *error)
{
  struct vc_redis *redis = connector->redis;
  redisReply *reply =
      ask(connector, context, "CONFIG GET", 0, error, "CONFIG GET maxmemory-policy");
  if (reply == NULL) {
    return -1;
  }
  if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
      reply->element[1]->type == REDIS_REPLY_STRING) {
    const char *policy = reply->element[1]->str;
    if (strcmp(policy, "noeviction") == 0) {
      redis_trouble_clear(redis, TROUBLE_EVICTING);
    } else {
      redis_trouble(redis, TROUBLE_EVICTING,
                    "maxmemory-policy is %.32s, which loses history; it must be noeviction",
                    policy);
    }
  } else if (!connector->has_told_policy) {
    connector->has_told_policy = 1;
    vc_log(VC_LOG_WARN, VC_EVENT("redis.policy_unknown"),
           VC_STR("reason", reply->type == REDIS_REPLY_ERROR ? reply->str : "no such setting"),
           VC_STR("wanted", "maxmemory-policy noeviction"));
  }
  freeReplyObject(reply);
  return 0;
}

static int load_scripts(struct connector *connector, struct redis_connection *connection,
                        struct vc_error *error)
{
  for (size_t i = 0; i < N_SCRIPTS; i++) {
    redisReply *reply = ask(connector, connection->context, "SCRIPT LOAD", 1, error,
                            "SCRIPT LOAD %s", redis_scripts[i]);
    if (reply == NULL) {
      return -1;
    }
    int is_sha = reply->type == REDIS_REPLY_STRING && reply->len == REDIS_SHA_SIZE - 1;
    if (is_sha) {
      memcpy(connection->shas[i], reply->str, REDIS_SHA_SIZE);
    }
    freeReplyObject(reply);
    if (!is_sha) {
      return vc_error_set(error, "%s: SCRIPT LOAD: an answer that is no SHA1",
                          connector->address.shown);
    }
  }
  return 0;
}

static redisContext *open_context(const struct redis_address *address)
{
  const struct timeval limit = {.tv_sec = TIMEOUT_MS / 1000};
  redisContext *context = address->path[0] != '\0'
                              ? redisConnectUnixWithTimeout(address->path, limit)
                              : redisConnectWithTimeout(address->host, address->port, limit);
  if (context != NULL && context->err == 0) {
    redisSetTimeout(context, limit);
  }
  return context;
}

static void leave_blocking(redisContext *context)
{
  int one = 1;
  fcntl(context->fd, F_SETFD, FD_CLOEXEC);
  fcntl(context->fd, F_SETFL, fcntl(context->fd, F_GETFL) | O_NONBLOCK);
  setsockopt(context->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // no TCP: refused
  context->flags &= ~REDIS_BLOCK;
}

static int dial(struct connector *connector, struct redis_connection *connection,
                struct vc_error *error)
{
  struct vc_redis *redis = connector->redis;
  struct vc_error why;
  if (redis_address_parse(redis->settings.options->redis_url, &connector->address, &why) != 0) {
    return vc_error_set(error, "REDIS_URL %s", why.text);
  }
  connection->context = open_context(&connector->address);
  if (connection->context == NULL || connection->context->err != 0) {
    return refuse(error, &connector->address, connection->context, "connect");
  }
  if (remember(redis, connection->context->fd)) {
    remember(redis, -1);
    return vc_error_set(error, "the node stops");
  }
  int status = log_in(connector, connection->context, error) != 0 ||
                       select_database(connector, connection->context, error) != 0 ||
                       check_role(connector, connection->context, error) != 0 ||
                       check_policy(connector, connection->context, error) != 0 ||
                       load_scripts(connector, connection, error) != 0
                   ? -1
                   : 0;
  remember(redis, -1);
  leave_blocking(connection->context);
  return status;
}

// --- for whom

static void tell_failure(struct connector *connector, enum redis_role role, const char *why)
{
  struct vc_redis *redis = connector->redis;
  uint64_t n_left_out;
  vc_metric_add(redis->connect_slots, CONNECT_ERRORS, 1);
  redis_trouble(redis, TROUBLE_AWAY, "%s", why);
  if (vc_log_limit_pass(&connector->limit, now_ns(), LOG_INTERVAL_MS, &n_left_out)) {
    vc_log(VC_LOG_WARN, VC_EVENT("redis.connect_failed"), VC_STR("for", role_names[role]),
           VC_STR("reason", why), VC_INT("left_out", n_left_out));
  }
}

static int give(struct vc_redis *redis, struct redis_connection *connection)
{
  struct vc_putter *putter = redis->connect_to[connection->role == ROLE_PUBLISH ? 0 : 1];
  return vc_putter_put(putter, 0, &connection->item.owned.item);
}

static void connect_for(struct connector *connector, enum redis_role role)
{
  struct vc_redis *redis = connector->redis;
  struct vc_error error = {.text = "no memory"};
  struct redis_connection *connection = redis_connection_create(role);
  int status = connection != NULL ? dial(connector, connection, &error) : -1;
  if (status == 0 && give(redis, connection) == 0) {
    vc_metric_add(redis->connect_slots, CONNECTS, 1);
    connector->retry_ms = 0;
    connector->retry_ns[role] = now_ns() + RETRY_FIRST_MS * VC_NS_PER_MS;
    return;
  }
  if (connection != NULL) {
    vc_item_destroy(&connection->item.owned.item);
  }
  tell_failure(connector, role, status == 0 ? "the worker takes no connection" : error.text);
  connector->retry_ms = vc_backoff_next(connector->retry_ms, RETRY_FIRST_MS, RETRY_MAX_MS);
  for (size_t i = 0; i < N_ROLES; i++) { // they all lead to the same Redis
    connector->retry_ns[i] = now_ns() + connector->retry_ms * VC_NS_PER_MS;
  }
  redis_connect_ask(redis, role);
}

static void show_sessions(struct connector *connector)
{
  struct vc_redis *redis = connector->redis;
  connector->show_ns = now_ns() + SHOW_MS * VC_NS_PER_MS;
  struct vc_buffer *sessions =
      redis->settings.sessions != NULL ? redis->settings.sessions(redis->settings.context) : NULL;
  if (sessions == NULL) {
    return;
  }
  struct redis_shown *shown = redis_shown_create(sessions);
  if (shown != NULL && vc_putter_put(redis->connect_to[0], 0, &shown->item.owned.item) != 0) {
    vc_item_destroy(&shown->item.owned.item); // the next is newer
  }
}

// --- the thread

// Under the mutex. Returns: whose turn it is, or N_ROLES, and when to look again.
static enum redis_role next_role(struct connector *connector, uint64_t *until_ns)
{
  uint64_t now = now_ns();
  *until_ns = connector->show_ns;
  for (size_t role = 0; role < N_ROLES; role++) {
    if (!connector->redis->is_wanted[role]) {
      continue;
    }
    if (connector->retry_ns[role] <= now) {
      connector->redis->is_wanted[role] = 0;
      return (enum redis_role)role;
    }
    *until_ns = connector->retry_ns[role] < *until_ns ? connector->retry_ns[role] : *until_ns;
  }
  return N_ROLES;
}

static void wait_until(struct vc_redis *redis, uint64_t until_ns)
{
  const struct timespec limit = {.tv_sec = (time_t)(until_ns / VC_NS_PER_S),
                                 .tv_nsec = (long)(until_ns % VC_NS_PER_S)};
  pthread_cond_timedwait(&redis->changed, &redis->mutex, &limit);
}

void *redis_connect_run(void *context)
{
  struct vc_redis *redis = context;
  struct connector connector = {.redis = redis};
  pthread_mutex_lock(&redis->mutex);
  while (!redis->is_stopping) {
    uint64_t until_ns;
    enum redis_role role = next_role(&connector, &until_ns);
    int is_show_due = role == N_ROLES && connector.show_ns <= now_ns();
    if (role == N_ROLES && !is_show_due) {
      wait_until(redis, until_ns);
      continue;
    }
    pthread_mutex_unlock(&redis->mutex);
    if (is_show_due) {
      show_sessions(&connector);
    } else {
      connect_for(&connector, role);
    }
    pthread_mutex_lock(&redis->mutex);
  }
  pthread_mutex_unlock(&redis->mutex);
  return NULL;
}

void redis_connect_stop(struct vc_redis *redis)
{
  pthread_mutex_lock(&redis->mutex);
  redis->is_stopping = 1;
  if (redis->dialing_fd >= 0) {
    shutdown(redis->dialing_fd, SHUT_RDWR);
  }
  pthread_cond_signal(&redis->changed);
  pthread_mutex_unlock(&redis->mutex);
  pthread_join(redis->connector, NULL);
}

// --- the workers' side

// Returns: how many are.
static int set_up(struct vc_redis *redis, enum redis_role role, int is_up)
{
  int n_up = 0;
  pthread_mutex_lock(&redis->mutex);
  redis->is_up[role] = is_up;
  for (size_t i = 0; i < N_ROLES; i++) {
    n_up += redis->is_up[i];
  }
  vc_metric_set(redis->connect_slots, UP, n_up);
  pthread_mutex_unlock(&redis->mutex);
  return n_up;
}

void redis_connect_ask(struct vc_redis *redis, enum redis_role role)
{
  pthread_mutex_lock(&redis->mutex);
  redis->is_wanted[role] = 1;
  pthread_cond_signal(&redis->changed);
  pthread_mutex_unlock(&redis->mutex);
}

void redis_connect_up(struct vc_redis *redis, enum redis_role role)
{
  if (set_up(redis, role, 1) == N_ROLES) {
    redis_trouble_clear(redis, TROUBLE_AWAY);
  }
  vc_log(VC_LOG_INFO, VC_EVENT("redis.connected"), VC_STR("for", role_names[role]),
         VC_STR("to", redis->address.shown));
}

void redis_connect_down(struct vc_redis *redis, enum redis_role role, const char *why)
{
  set_up(redis, role, 0);
  redis_trouble(redis, TROUBLE_AWAY, "%s: %s", redis->address.shown, why);
  vc_log(VC_LOG_WARN, VC_EVENT("redis.disconnected"), VC_STR("for", role_names[role]),
         VC_STR("reason", why));
}
