// Echoes WebSocket messages to a server that checks clients, with the client that speech-to-text
// uses (net/client): ws_echo_client ws://HOST:PORT AGENT
//
// The server's protocol is the one of the Autobahn test suite: /getCaseCount tells a number, each
// of /runCase?case=1 … n is one connection, /updateReports ends it.
#include <verbacast/net/client.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX (16 * 1024 * 1024)
#define CONNECT_TIMEOUT_MS 20000

struct echo {
  /* set before start, then read-only */
  const char *server, *agent;
  sem_t is_over;
  /* the worker's */
  struct vc_client *client;
  struct vc_socket *socket;
  long n_cases;  // -1: not told yet
  long at;       // the case: 0 none yet, n_cases + 1 the end
  uint8_t *kept; // a message that is to be echoed when the one before has gone
  size_t kept_size;
  enum vc_ws_opcode kept_opcode;
  /* the worker's, main's after is_over */
  int has_failed;
};

static void finish(struct echo *echo, const char *what)
{
  if (what != NULL) {
    fprintf(stderr, "case %ld of %ld: %s\n", echo->at, echo->n_cases, what);
    echo->has_failed = 1;
  }
  sem_post(&echo->is_over);
}

static void opened(void *context) {}

static void keep(struct echo *echo, enum vc_ws_opcode opcode, const uint8_t *payload, size_t size)
{
  echo->kept = malloc(size + 1);
  if (echo->kept == NULL) {
    abort();
  }
  if (size > 0) {
    memcpy(echo->kept, payload, size);
  }
  echo->kept_size = size;
  echo->kept_opcode = opcode;
  vc_socket_pause(echo->socket);
}

static void message(void *context, enum vc_ws_opcode opcode, const uint8_t *payload, size_t size)
{
  struct echo *echo = context;
  if (echo->n_cases < 0) {
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)size, (const char *)payload);
    echo->n_cases = strtol(text, NULL, 10);
  } else if (vc_socket_send(echo->socket, opcode, payload, size) == 1) {
    keep(echo, opcode, payload, size);
  }
}

static void writable(void *context)
{
  struct echo *echo = context;
  if (echo->kept != NULL &&
      vc_socket_send(echo->socket, echo->kept_opcode, echo->kept, echo->kept_size) != 1) {
    free(echo->kept);
    echo->kept = NULL;
    vc_socket_resume(echo->socket);
  }
}

static void connect_next(struct echo *echo);

static void closed(void *context, const struct vc_socket_end *end)
{
  struct echo *echo = context;
  echo->socket = NULL;
  free(echo->kept);
  echo->kept = NULL;
  if (echo->n_cases < 0) {
    finish(echo, "the number of cases is not told");
  } else if (echo->at > echo->n_cases) {
    finish(echo, NULL);
  } else {
    echo->at++;
    connect_next(echo);
  }
}

static const struct vc_socket_ops socket_ops = {
    .opened = opened, .message = message, .writable = writable, .closed = closed};

static void connect_next(struct echo *echo)
{
  char url[512];
  if (echo->n_cases < 0) {
    snprintf(url, sizeof url, "%s/getCaseCount", echo->server);
  } else if (echo->at <= echo->n_cases) {
    snprintf(url, sizeof url, "%s/runCase?case=%ld&agent=%s", echo->server, echo->at, echo->agent);
  } else {
    snprintf(url, sizeof url, "%s/updateReports?agent=%s", echo->server, echo->agent);
  }
  struct vc_socket_request request = {.url = url,
                                      .scope = VC_SCOPE_ANY,
                                      .message_max = MESSAGE_MAX,
                                      .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                      .ops = &socket_ops,
                                      .context = echo};
  if (vc_socket_open(&echo->socket, echo->client, &request) != 0) {
    finish(echo, "the connection cannot be begun");
  }
}

// --- the stage

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct echo *echo = *(struct echo **)config;
  vc_worker_set_state(worker, echo);
  if (vc_client_create(&echo->client, worker,
                       &(struct vc_client_settings){.user_agent = "ws_echo_client"}, error) != 0) {
    return -1;
  }
  connect_next(echo);
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  vc_item_destroy(item);
}

static void leave(struct vc_worker *worker)
{
  struct echo *echo = vc_worker_state(worker);
  vc_socket_close(&echo->socket, 1001);
  vc_client_destroy(&echo->client);
  free(echo->kept);
}

static const struct vc_stage_ops stage_ops = {
    .name = "echo", .enter = enter, .handle = handle, .leave = leave};

int main(int argc, char **argv)
{
  if (argc != 3) {
    fprintf(stderr, "usage: ws_echo_client ws://HOST:PORT AGENT\n");
    return 2;
  }
  struct echo echo = {.server = argv[1], .agent = argv[2], .n_cases = -1};
  struct echo *config = &echo;
  struct vc_stage_settings settings = {.ops = &stage_ops,
                                       .config = &config,
                                       .config_size = sizeof config,
                                       .n_workers = 1,
                                       .lane_capacity = 16,
                                       .clock = &vc_clock_system};
  struct vc_stage *stage = NULL;
  struct vc_error error;
  sem_init(&echo.is_over, 0, 0);
  if (vc_stage_create(&stage, &settings, &error) != 0 || vc_stage_start(stage, &error) != 0) {
    fprintf(stderr, "%s\n", error.text);
    return 1;
  }
  sem_wait(&echo.is_over); // who started it has a limit for the whole
  vc_stage_stop(stage, 1000);
  vc_stage_destroy(&stage);
  sem_destroy(&echo.is_over);
  return echo.has_failed;
}
