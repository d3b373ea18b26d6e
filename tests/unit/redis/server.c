#include "server.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <verbacast/base/clock.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SETTINGS_MAX 32

int server_is_there(const char *program)
{
  static const char *const places[] = {"/usr/bin/redis-server", "/usr/local/bin/redis-server"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    if (access(places[i], X_OK) == 0) {
      return 1;
    }
  }
  printf("1..1\nok 1 - %s # SKIP redis-server is not installed: nothing of it was tested\n",
         program);
  return 0;
}

static int free_port(void)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

// In the child.
static void run(const struct server *server, const char *const *settings)
{
  static char names[SETTINGS_MAX][64];
  char port[16];
  const char *arguments[SETTINGS_MAX + 16] = {
      "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"};
  size_t n = 9;
  snprintf(port, sizeof port, "%d", server->port);
  for (size_t i = 0; settings != NULL && settings[i] != NULL && i < SETTINGS_MAX; i += 2) {
    snprintf(names[i], sizeof names[i], "--%s", settings[i]);
    arguments[n++] = names[i];
    arguments[n++] = settings[i + 1];
  }
  arguments[n] = NULL;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (chdir(server->folder) == 0 && freopen("log", "a", stdout) != NULL) {
    execvp("redis-server", (char *const *)arguments);
  }
  _exit(127);
}

static redisContext *try_connection(const struct server *server)
{
  const struct timeval limit = {.tv_sec = SERVER_PATIENCE_MS / 1000};
  redisContext *context = redisConnectWithTimeout("127.0.0.1", server->port, limit);
  assert_non_null(context);
  if (context->err == 0) {
    redisSetTimeout(context, limit);
    redisReply *reply = server->password[0] != '\0'
                            ? redisCommand(context, "AUTH %s", server->password)
                            : redisCommand(context, "PING");
    int is_good = reply != NULL && reply->type != REDIS_REPLY_ERROR;
    if (reply != NULL) {
      freeReplyObject(reply);
    }
    if (is_good) {
      return context;
    }
  }
  redisFree(context);
  return NULL;
}

redisContext *server_connection(const struct server *server)
{
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + SERVER_PATIENCE_MS * VC_NS_PER_MS;
  redisContext *context;
  while ((context = try_connection(server)) == NULL) {
    assert_true(vc_clock_now_ns(&vc_clock_system) < until);
    usleep(5000);
  }
  return context;
}

// It has ended by itself: somebody else has the port.
static int has_ended(struct server *server)
{
  if (waitpid(server->pid, NULL, WNOHANG) != server->pid) {
    return 0;
  }
  server->pid = 0;
  return 1;
}

// Returns: 1 when what answers is the one that was started.
static int is_own(const struct server *server, redisContext *context)
{
  char line[32];
  redisReply *reply = redisCommand(context, "INFO server");
  snprintf(line, sizeof line, "process_id:%d\r", (int)server->pid);
  int is_it =
      reply != NULL && reply->type == REDIS_REPLY_STRING && strstr(reply->str, line) != NULL;
  if (reply != NULL) {
    freeReplyObject(reply);
  }
  return is_it;
}

// Returns: 1, or 0: the port is taken.
static int try_start(struct server *server, const char *const *settings)
{
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + SERVER_PATIENCE_MS * VC_NS_PER_MS;
  server->pid = fork();
  assert_true(server->pid >= 0);
  if (server->pid == 0) {
    run(server, settings);
  }
  while (!has_ended(server)) {
    redisContext *context = try_connection(server);
    if (context != NULL && is_own(server, context)) {
      server->own = context;
      return 1;
    }
    if (context != NULL) {
      redisFree(context);
    }
    assert_true(vc_clock_now_ns(&vc_clock_system) < until);
    usleep(5000);
  }
  return 0;
}

static void take_password(struct server *server, const char *const *settings)
{
  server->password[0] = '\0';
  for (size_t i = 0; settings != NULL && settings[i] != NULL; i += 2) {
    if (strcmp(settings[i], "requirepass") == 0) {
      snprintf(server->password, sizeof server->password, "%s", settings[i + 1]);
    }
  }
}

void server_start_again(struct server *server, const char *const *settings)
{
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + SERVER_PATIENCE_MS * VC_NS_PER_MS;
  take_password(server, settings);
  while (!try_start(server, settings)) { // its port was lent to somebody for a moment
    assert_true(vc_clock_now_ns(&vc_clock_system) < until);
  }
}

void server_start(struct server *server, const char *const *settings)
{
  *server = (struct server){.folder = "/tmp/vc-redis-XXXXXX"};
  assert_non_null(mkdtemp(server->folder));
  take_password(server, settings);
  do {
    server->port = free_port();
  } while (!try_start(server, settings));
  snprintf(server->url, sizeof server->url, "redis://127.0.0.1:%d", server->port);
}

void server_kill(struct server *server)
{
  if (server->pid > 0) {
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
  }
  if (server->own != NULL) {
    redisFree(server->own);
    server->own = NULL;
  }
}

void server_stop(struct server *server)
{
  char path[96];
  server_kill(server);
  static const char *const left[] = {"log", "dump.rdb"};
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
    snprintf(path, sizeof path, "%s/%s", server->folder, left[i]);
    unlink(path);
  }
  rmdir(server->folder);
}

void server_freeze(struct server *server)
{
  int status;
  assert_int_equal(kill(server->pid, SIGSTOP), 0);
  assert_int_equal(waitpid(server->pid, &status, WUNTRACED), server->pid);
}

void server_thaw(struct server *server)
{
  assert_int_equal(kill(server->pid, SIGCONT), 0);
}

static redisReply *ask(struct server *server, const char *format, va_list arguments)
{
  redisReply *reply = redisvCommand(server->own, format, arguments);
  if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
    fail_msg("%s: %s", format, reply != NULL ? reply->str : server->own->errstr);
  }
  return reply;
}

redisReply *server_ask(struct server *server, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  redisReply *reply = ask(server, format, arguments);
  va_end(arguments);
  return reply;
}

void server_do(struct server *server, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  freeReplyObject(ask(server, format, arguments));
  va_end(arguments);
}

long long server_number(struct server *server, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  redisReply *reply = ask(server, format, arguments);
  va_end(arguments);
  long long number = reply->type == REDIS_REPLY_ARRAY ? (long long)reply->elements : reply->integer;
  freeReplyObject(reply);
  return number;
}
