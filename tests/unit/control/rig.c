#include "rig.h"

#include <jwt.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define WAIT_S 30
#define STAGE_WORKERS 2
#define SILENCE_MS 10000 // twice what a worker may be silent
#define ANSWER_MAX ((size_t)64 * 1024 * 1024)

// --- stages

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  (void)error;
  vc_worker_set_state(worker, *(struct rig_place **)config);
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = ((struct rig_place *)vc_worker_state(worker))->rig;
  struct vc_query *query = vc_query_of(item);
  enum vc_query_kind kind = vc_query_kind(query);
  pthread_mutex_lock(&rig->mutex);
  struct rig_reply reply = rig->replies[kind];
  rig->n_asked[kind]++;
  snprintf(rig->asked, sizeof rig->asked, "%s", vc_query_slug(query));
  snprintf(rig->asked_participant, sizeof rig->asked_participant, "%s",
           vc_query_participant(query));
  int is_held = reply.is_held && rig->n_held < RIG_HELD_MAX;
  if (is_held) {
    rig->held[rig->n_held++] = query;
    pthread_cond_broadcast(&rig->changed);
  }
  pthread_mutex_unlock(&rig->mutex);
  if (is_held) {
    return;
  }
  if (reply.is_incomplete) {
    vc_query_mark_incomplete(query);
  }
  if (reply.number != 0) {
    vc_query_set_number(query, reply.number);
  }
  vc_query_answer(query, reply.status,
                  reply.text != NULL ? vc_buffer_copy(reply.text, strlen(reply.text)) : NULL);
}

static void turned(struct vc_worker *worker)
{
  struct rig_place *place = vc_worker_state(worker);
  struct rig *rig = place->rig;
  pthread_mutex_lock(&rig->mutex);
  if (place->is_hanging) {
    place->n_hung++;
    pthread_cond_broadcast(&rig->changed);
    while (place->is_hanging) {
      pthread_cond_wait(&rig->changed, &rig->mutex);
    }
    place->n_hung--;
    pthread_cond_broadcast(&rig->changed);
  }
  pthread_mutex_unlock(&rig->mutex);
}

static void leave(struct vc_worker *worker)
{
  (void)worker;
}

#define STAGE(called)                                                                              \
  {                                                                                                \
    .name = (called), .enter = enter, .handle = handle, .turned = turned, .leave = leave           \
  }
static const struct vc_stage_ops stage_ops[RIG_STAGES] = {
    [INGEST] = STAGE("ingest"),
    [DECODE] = STAGE("decode"),
    [STT] = STAGE("stt"),
    [LEDGER] = STAGE("ledger"),
    [BROADCAST] = STAGE("broadcast"),
    [JOURNAL] = STAGE("journal"),
    [PUBLISHER] = STAGE("redis-publish"),
    [WATCHER] = STAGE("redis-watch"),
};

static uint64_t place_ns(void *context)
{
  const struct rig_place *place = context;
  return vc_clock_now_ns(&vc_clock_system) + atomic_load(&place->forward_ns);
}

static int64_t place_unix_us(void *context)
{
  (void)context;
  return vc_clock_unix_us(&vc_clock_system);
}

static struct vc_stage *start_stage(struct rig *rig, struct rig_place *place,
                                    const struct vc_stage_ops *ops)
{
  place->rig = rig;
  place->clock = (struct vc_clock){place_ns, place_unix_us, place};
  struct vc_stage *stage;
  struct vc_error error;
  assert_int_equal(vc_stage_create(&stage,
                                   &(struct vc_stage_settings){.ops = ops,
                                                               .config = &place,
                                                               .config_size = sizeof place,
                                                               .n_workers = STAGE_WORKERS,
                                                               .lane_capacity = 16,
                                                               .clock = &place->clock},
                                   &error),
                   0);
  assert_int_equal(vc_stage_start(stage, &error), 0);
  return stage;
}

void rig_hang(struct rig *rig, enum rig_stage stage)
{
  struct rig_place *place = &rig->places[stage];
  pthread_mutex_lock(&rig->mutex);
  place->is_hanging = 1;
  vc_stage_wake(rig->stages[stage]);
  while (place->n_hung < STAGE_WORKERS) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  pthread_mutex_unlock(&rig->mutex);
  atomic_store(&place->forward_ns, SILENCE_MS * VC_NS_PER_MS);
}

void rig_unhang(struct rig *rig, enum rig_stage stage)
{
  struct rig_place *place = &rig->places[stage];
  atomic_store(&place->forward_ns, 0);
  pthread_mutex_lock(&rig->mutex);
  place->is_hanging = 0;
  pthread_cond_broadcast(&rig->changed);
  while (place->n_hung > 0) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  pthread_mutex_unlock(&rig->mutex);
}

void rig_reply(struct rig *rig, enum vc_query_kind kind, struct rig_reply reply)
{
  pthread_mutex_lock(&rig->mutex);
  rig->replies[kind] = reply;
  rig->n_asked[kind] = 0;
  pthread_mutex_unlock(&rig->mutex);
}

void rig_await_held(struct rig *rig, int n)
{
  pthread_mutex_lock(&rig->mutex);
  while (rig->n_held < n) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  pthread_mutex_unlock(&rig->mutex);
}

void rig_release(struct rig *rig, int status)
{
  pthread_mutex_lock(&rig->mutex);
  while (rig->n_held > 0) {
    vc_query_answer(rig->held[--rig->n_held], status, NULL);
  }
  pthread_mutex_unlock(&rig->mutex);
}

// --- what control calls

static int has_room(void *context)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  int has = !rig->is_full;
  pthread_mutex_unlock(&rig->mutex);
  return has;
}

static const char *stuck(void *context, uint32_t silent_ms)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  const char *name = silent_ms == 5000 ? rig->stuck : NULL;
  pthread_mutex_unlock(&rig->mutex);
  return name;
}

static const char *publisher_refusal(void *context)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  const char *why = rig->publisher_refusal;
  pthread_mutex_unlock(&rig->mutex);
  return why;
}

static int has_room_for_session(void *context)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  int has = !rig->is_full_of_sessions;
  pthread_mutex_unlock(&rig->mutex);
  return has;
}

static int take_webhook(void *context, const char *authorization, const char *body, size_t size,
                        const char **why)
{
  struct rig *rig = context;
  size_t n = 0;
  while (n < size && body[n] == 'x') {
    n++;
  }
  int is_signed = authorization != NULL && strcmp(authorization, "t") == 0;
  pthread_mutex_lock(&rig->mutex);
  rig->n_webhooks += body != NULL || !is_signed;
  rig->webhook_size = size;
  rig->is_webhook_of_x = n == size;
  pthread_mutex_unlock(&rig->mutex);
  *why = "it is not signed";
  return is_signed ? 200 : 401;
}

static void adopt(void *context, const struct vc_control_newcomer *newcomer)
{
  struct rig *rig = context;
  close(newcomer->fd);
  pthread_mutex_lock(&rig->mutex);
  snprintf(rig->adopted, sizeof rig->adopted, "%s", newcomer->slug);
  rig->newcomer = *newcomer;
  rig->newcomer.slug = rig->adopted;
  rig->n_adopted++;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static void adopt_track(void *context, const struct vc_control_track *track)
{
  struct rig *rig = context;
  close(track->fd);
  pthread_mutex_lock(&rig->mutex);
  rig->track = *track;
  rig->n_adopted++;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static uint64_t monotonic_ns(void *context)
{
  struct rig *rig = context;
  return vc_clock_now_ns(&vc_clock_system) + atomic_load(&rig->forward_ns);
}

static int64_t unix_us(void *context)
{
  (void)context;
  return vc_clock_unix_us(&vc_clock_system);
}

// --- life

// As the room livekit has them.
static const struct vc_option livekit_rows[] = {
    {"LIVEKIT_API_KEY", VC_OPTION_TEXT, offsetof(struct rig_livekit, api_key)},
    {"LIVEKIT_API_SECRET", VC_OPTION_SECRET, offsetof(struct rig_livekit, api_secret)},
    VC_OPTION_ROWS_END,
};

static void parse(struct rig *rig, const char *const *environment)
{
  const char *list[RIG_ENVIRONMENT_MAX + 4] = {"HTTP_LISTEN=127.0.0.1:0",
                                               "ADMIN_LISTEN=127.0.0.1:0"};
  size_t n = 2;
  struct vc_error error = {.text = ""};
  int has_store = 0;
  for (size_t i = 0; environment[i] != NULL; i++) {
    assert_true(i < RIG_ENVIRONMENT_MAX);
    has_store |= strncmp(environment[i], "DATABASE_URL=", 13) == 0;
    if (strncmp(environment[i], "KAFKA_TOPIC=", 12) == 0) {
      rig->kafka_topic = environment[i] + 12;
    }
    if (strncmp(environment[i], "REDIS_URL=", 10) == 0) {
      rig->has_fleet = 1;
    } else {
      list[n++] = environment[i];
    }
  }
  if (!has_store) {
    list[n++] = "DATABASE_URL=";
  }
  char program[] = "test", *arguments[] = {program, NULL};
  rig->groups[0] = (struct vc_option_group){"Control", vc_control_option_rows, &rig->options};
  rig->groups[1] = (struct vc_option_group){"Store", vc_store_option_rows, &rig->store_options};
  rig->groups[2] = (struct vc_option_group){"LiveKit", livekit_rows, &rig->livekit};
  rig->set = (struct vc_option_set){"test", "A test.", rig->groups, 3, NULL};
  if (vc_options_parse(&rig->set, 1, arguments, (char *const *)list, stdout, &error) !=
      VC_OPTIONS_RUN) {
    fail_msg("%s", error.text);
  }
}

struct rig *rig_create(const char *const *environment, const char *proxies)
{
  struct rig *rig = calloc(1, sizeof *rig);
  struct vc_error error = {.text = ""};
  assert_non_null(rig);
  rig->clock = (struct vc_clock){monotonic_ns, unix_us, rig};
  pthread_mutex_init(&rig->mutex, NULL);
  pthread_cond_init(&rig->changed, NULL);
  for (size_t i = 0; i < RIG_QUERIES; i++) {
    rig->replies[i].status = 404;
  }
  parse(rig, environment);
  assert_int_equal(vc_networks_parse(proxies, &rig->proxies, &error), 0);
  rig->limits = vc_limits_create(1000, 1);
  rig->publisher_limits = vc_limits_create(1000, 1);
  rig->metrics = vc_metrics_create(&vc_clock_system);
  rig->health = vc_health_create(&vc_clock_system);
  for (size_t i = 0; i < RIG_STAGES; i++) {
    rig->stages[i] = start_stage(rig, &rig->places[i], &stage_ops[i]);
  }
  const struct vc_control_settings settings = {
      .options = &rig->options,
      .livekit = {rig->livekit.api_key, rig->livekit.api_secret},
      .database_url = rig->store_options.database_url,
      .kafka_topic = rig->kafka_topic,
      .node = "a1",
      .version = "1",
      .proxies = &rig->proxies,
      .limits = rig->limits,
      .publisher_limits = rig->publisher_limits,
      .ingest = rig->stages[INGEST],
      .decode = rig->stages[DECODE],
      .stt = rig->stages[STT],
      .ledger = rig->stages[LEDGER],
      .broadcast = rig->stages[BROADCAST],
      .journal = rig->stages[JOURNAL],
      .publisher = rig->has_fleet ? rig->stages[PUBLISHER] : NULL,
      .watcher = rig->has_fleet ? rig->stages[WATCHER] : NULL,
      .clock = &rig->clock,
      .metrics = rig->metrics,
      .health = rig->health,
      .stuck = stuck,
      .stored_max = RIG_STORED_MAX,
      .making_wait_ms = 1,
      .store_rest_ms = RIG_STORE_REST_MS,
      .has_room = has_room,
      .publisher_refusal = publisher_refusal,
      .has_room_for_session = has_room_for_session,
      .adopt = adopt,
      .adopt_track = adopt_track,
      .take_webhook = rig->livekit.api_key[0] != '\0' ? take_webhook : NULL,
      .context = rig};
  if (vc_control_start(&rig->control, &rig->doors[HTTP_DOOR], &rig->doors[ADMIN_DOOR], &settings,
                       &error) != 0) {
    fail_msg("%s", error.text);
  }
  return rig;
}

void rig_destroy(struct rig *rig)
{
  vc_control_stop(&rig->control);
  for (size_t i = 0; i < RIG_STAGES; i++) {
    vc_stage_stop(rig->stages[i], 1000);
    vc_stage_destroy(&rig->stages[i]);
  }
  vc_health_destroy(&rig->health);
  vc_metrics_destroy(&rig->metrics);
  vc_limits_destroy(&rig->limits);
  vc_limits_destroy(&rig->publisher_limits);
  vc_options_free(&rig->set);
  pthread_mutex_destroy(&rig->mutex);
  pthread_cond_destroy(&rig->changed);
  free(rig->head);
  free(rig);
}

// --- the client

static int connect_to(const struct vc_address *address)
{
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons(address->port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct timeval limit = {.tv_sec = WAIT_S};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

static int is_upgraded(const char *bytes, size_t n)
{
  return n > 12 && memcmp(bytes, "HTTP/1.1 101", 12) == 0 &&
         memmem(bytes, n, "\r\n\r\n", 4) != NULL;
}

// Until the connection ends, or its handshake is done.
static char *read_answer(int fd, size_t *size)
{
  size_t capacity = 65536, n = 0;
  char *bytes = malloc(capacity);
  while (bytes != NULL && n < ANSWER_MAX) {
    ssize_t got = recv(fd, bytes + n, capacity - n - 1, 0);
    if (got <= 0) {
      break;
    }
    n += (size_t)got;
    if (is_upgraded(bytes, n)) {
      break;
    }
    if (capacity - n < 2) {
      capacity *= 2;
      bytes = realloc(bytes, capacity);
    }
  }
  assert_non_null(bytes);
  bytes[n] = '\0';
  *size = n;
  return bytes;
}

static int exchange(struct rig *rig, enum rig_door door, const char *request, size_t size)
{
  int fd = connect_to(&rig->doors[door]), status = 0;
  size_t n;
  assert_int_equal(send(fd, request, size, MSG_NOSIGNAL), size);
  free(rig->head);
  rig->head = read_answer(fd, &n);
  close(fd);
  char *end = strstr(rig->head, "\r\n\r\n");
  rig->body = end != NULL ? end + 4 : rig->head + n;
  rig->body_size = n - (size_t)(rig->body - rig->head);
  if (end != NULL) {
    end[2] = '\0';
  }
  return sscanf(rig->head, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static int ask(struct rig *rig, enum rig_door door, const char *method, const char *target,
               const char *headers, const char *body)
{
  char address[VC_ADDRESS_TEXT_MAX], *request = NULL;
  vc_address_print_port(&rig->doors[door], address);
  int has_host = strncmp(headers, "Host:", 5) == 0 || strstr(headers, "\nHost:") != NULL;
  int size = asprintf(&request, "%s %s HTTP/1.1\r\n%s%s%s%s\r\n%s", method, target,
                      has_host ? "" : "Host: ", has_host ? "" : address, has_host ? "" : "\r\n",
                      headers, body);
  assert_true(size > 0);
  int status = exchange(rig, door, request, (size_t)size);
  free(request);
  return status;
}

int rig_ask(struct rig *rig, enum rig_door door, const char *method, const char *target,
            const char *headers)
{
  return ask(rig, door, method, target, headers, "");
}

int rig_get(struct rig *rig, enum rig_door door, const char *target)
{
  return ask(rig, door, "GET", target, "", "");
}

int rig_post(struct rig *rig, enum rig_door door, const char *target, const char *headers,
             const char *body)
{
  char all[8192];
  snprintf(all, sizeof all, "%sContent-Length: %zu\r\n", headers, strlen(body));
  return ask(rig, door, "POST", target, all, body);
}

int rig_upgrade(struct rig *rig, const char *target, const char *headers)
{
  char all[8192];
  pthread_mutex_lock(&rig->mutex);
  int n_before = rig->n_adopted;
  pthread_mutex_unlock(&rig->mutex);
  snprintf(all, sizeof all,
           "%sUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
           headers);
  int status = ask(rig, HTTP_DOOR, "GET", target, all, "");
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += WAIT_S;
  pthread_mutex_lock(&rig->mutex);
  int late = 0;
  while (status == 101 && rig->n_adopted == n_before && late == 0) {
    late = pthread_cond_timedwait(&rig->changed, &rig->mutex, &limit);
  }
  pthread_mutex_unlock(&rig->mutex);
  assert_int_equal(late, 0);
  return status;
}

// --- tokens

const char *rig_token(const char *secret, const char *algorithm, const char *grants)
{
  static char token[8192];
  jwt_t *jwt;
  jwt_alg_t alg = jwt_str_alg(algorithm);
  assert_int_equal(jwt_new(&jwt), 0);
  assert_int_equal(jwt_add_grants_json(jwt, grants), 0);
  if (alg != JWT_ALG_NONE) {
    assert_int_equal(jwt_set_alg(jwt, alg, (const unsigned char *)secret, (int)strlen(secret)), 0);
  }
  char *text = jwt_encode_str(jwt);
  assert_non_null(text);
  snprintf(token, sizeof token, "%s", text);
  free(text);
  jwt_free(jwt);
  return token;
}

const char *rig_grants(const char *session, long seconds)
{
  static char grants[512];
  snprintf(grants, sizeof grants, "{\"session\":\"%s\",\"exp\":%ld}", session,
           (long)time(NULL) + seconds);
  return grants;
}
