// What has come into PostgreSQL, asked for by SQL. A question has an end: a server that does not
// answer is said, not waited for.
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "bench.h"

#define CONNECT_TIMEOUT_S "10"
#define ANSWER_TIMEOUT_S 60
#define SQL_MAX 1024

struct database {
  PGconn *connection;
};

static void die_of(const struct database *database, const char *what)
{
  const char *why = PQerrorMessage(database->connection);
  die("BENCH_DATABASE: %s: %.*s", what, (int)strcspn(why, "\n"), why);
}

struct database *database_open(const char *url)
{
  const char *const keys[] = {"dbname", "connect_timeout", "application_name", NULL};
  const char *const values[] = {url, CONNECT_TIMEOUT_S, "verbacast-bench", NULL};
  struct database *database = grow(NULL, 1, sizeof *database);
  database->connection = PQconnectdbParams(keys, values, 1);
  if (PQstatus(database->connection) != CONNECTION_OK) {
    die_of(database, "no connection");
  }
  return database;
}

void database_close(struct database **database)
{
  PQfinish((*database)->connection);
  free(*database);
  *database = NULL;
}

// Waits until there is an answer to be had.
static void wait_answer(const struct database *database, uint64_t end_ns)
{
  struct pollfd socket = {.fd = PQsocket(database->connection), .events = POLLIN};
  while (PQisBusy(database->connection)) {
    uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
    if (now_ns >= end_ns) {
      die("BENCH_DATABASE: no answer in %d s", ANSWER_TIMEOUT_S);
    }
    poll(&socket, 1, (int)((end_ns - now_ns) / VC_NS_PER_MS) + 1);
    if (!PQconsumeInput(database->connection)) {
      die_of(database, "the connection is lost");
    }
  }
}

__attribute__((format(printf, 2, 0))) static PGresult *ask(struct database *database,
                                                           const char *format, va_list arguments)
{
  char sql[SQL_MAX];
  uint64_t end_ns = vc_clock_now_ns(&vc_clock_system) + ANSWER_TIMEOUT_S * VC_NS_PER_S;
  int n = vsnprintf(sql, sizeof sql, format, arguments);
  if (n < 0 || (size_t)n >= sizeof sql || !PQsendQuery(database->connection, sql)) {
    die_of(database, "a question cannot be asked");
  }
  PGresult *result = NULL, *next;
  for (;;) {
    wait_answer(database, end_ns);
    if ((next = PQgetResult(database->connection)) == NULL) {
      break;
    }
    PQclear(result);
    result = next;
  }
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    die_of(database, "a question is refused");
  }
  return result;
}

static double number_of(const PGresult *result, int row, int column)
{
  return row < PQntuples(result) && column < PQnfields(result) && !PQgetisnull(result, row, column)
             ? strtod(PQgetvalue(result, row, column), NULL)
             : NAN;
}

void database_ask(struct database *database, double *figures, size_t n, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  PGresult *result = ask(database, format, arguments);
  va_end(arguments);
  for (size_t i = 0; i < n; i++) {
    figures[i] = number_of(result, 0, (int)i);
  }
  PQclear(result);
}

void database_ask_column(struct database *database, struct samples *samples, const char *format,
                         ...)
{
  va_list arguments;
  va_start(arguments, format);
  PGresult *result = ask(database, format, arguments);
  va_end(arguments);
  for (int i = 0; i < PQntuples(result); i++) {
    double value = number_of(result, i, 0);
    if (!isnan(value)) {
      samples_add(samples, value);
    }
  }
  PQclear(result);
}
