// A redis-server of the test's own, on a port of its own and in a folder that goes with it; and a
// connection for the test's commands. Every wait is for a condition and bounded by
// SERVER_PATIENCE_MS. What cannot be done fails the test.
#pragma once

#include <hiredis/hiredis.h>

#include <sys/types.h>

#define SERVER_PATIENCE_MS 30000

struct server {
  char folder[64];
  int port;
  char url[64];
  char password[32]; // "" none
  pid_t pid;         // 0: it does not run
  redisContext *own;
};

// 0: redis-server is not installed; said on stdout, as TAP knows it.
int server_is_there(const char *program);
// `settings`: of redis.conf, name and value in turn, NULL at the end; NULL: none.
void server_start(struct server *server, const char *const *settings);
void server_stop(struct server *server);
// It is killed, and started on its port without what it held.
void server_kill(struct server *server);
void server_start_again(struct server *server, const char *const *settings);
void server_freeze(struct server *server);
void server_thaw(struct server *server);
// A command. Gives: the reply, which is no error.
__attribute__((format(printf, 2, 3))) redisReply *server_ask(struct server *server,
                                                             const char *format, ...);
// The same, of which nothing is wanted.
__attribute__((format(printf, 2, 3))) void server_do(struct server *server, const char *format,
                                                     ...);
// A number, or how many elements.
__attribute__((format(printf, 2, 3))) long long server_number(struct server *server,
                                                              const char *format, ...);
redisContext *server_connection(const struct server *server);
