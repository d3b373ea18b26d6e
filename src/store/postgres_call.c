#include "postgres.h"

#include <verbacast/base/clock.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

// The server gives up before this end does, so that it is the one that says why.
#define SETTINGS                                                                                   \
  "SET lock_timeout = 3000; SET statement_timeout = 8000;"                                         \
  "SET idle_in_transaction_session_timeout = 60000"

_Static_assert(VC_STORE_CALL_MAX_MS == PG_CONNECT_MAX_MS + PG_CALL_MAX_MS, "store.h says it");

static void ignore_notice(void *context, const char *message) {}

void pg_forget_ids(struct pg_store *store)
{
  pg_ids_fini(&store->sessions);
  pg_ids_fini(&store->participants);
}

void pg_drop_connection(struct pg_store *store)
{
  PQfinish(store->connection);
  store->connection = NULL;
  store->n_prepared = 0;
  pg_forget_ids(store);
}

int pg_has_failed_with(const struct pg_store *store, const char *state)
{
  return strncmp(store->state, state, strlen(state)) == 0;
}

// libpq ends its messages with a line's end, and some have several lines.
static int fail_with(const char *message, struct vc_error *error)
{
  vc_error_set(error, "store: PostgreSQL: %s", message);
  if (error != NULL) {
    error->text[strcspn(error->text, "\n")] = '\0';
  }
  return -1;
}

static int fail_connection(struct pg_store *store, struct vc_error *error)
{
  fail_with(PQerrorMessage(store->connection), error);
  pg_drop_connection(store);
  return -1;
}

// The message alone: its details may hold what somebody said.
static int fail_statement(struct pg_store *store, const PGresult *result, struct vc_error *error)
{
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  memcpy(store->state, state != NULL && strlen(state) == 5 ? state : "XX000", 6);
  if (PQstatus(store->connection) != CONNECTION_OK) {
    return fail_connection(store, error);
  }
  return fail_with(message != NULL ? message : "no answer that makes sense", error);
}

static int left_ms(const struct pg_store *store)
{
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  return now_ns < store->deadline_ns ? (int)((store->deadline_ns - now_ns) / VC_NS_PER_MS) + 1 : 0;
}

// Returns: what the socket is ready for, or -1: time is over, and the connection is closed.
static int wait_for(struct pg_store *store, short events, struct vc_error *error)
{
  struct pollfd waiting = {.fd = PQsocket(store->connection), .events = events};
  int n, ms;
  do {
    ms = left_ms(store);
    n = poll(&waiting, 1, ms);
  } while ((n < 0 && errno == EINTR) || (n == 0 && ms > 0));
  if (n > 0) {
    return waiting.revents;
  }
  fail_with("no answer in time", error);
  pg_drop_connection(store);
  return -1;
}

static int consume(struct pg_store *store, struct vc_error *error)
{
  return PQconsumeInput(store->connection) ? 0 : fail_connection(store, error);
}

static int send_all(struct pg_store *store, struct vc_error *error)
{
  int status;
  while ((status = PQflush(store->connection)) == 1) {
    int ready = wait_for(store, POLLIN | POLLOUT, error);
    if (ready < 0 || ((ready & POLLIN) != 0 && consume(store, error) != 0)) {
      return -1;
    }
  }
  return status == 0 ? 0 : fail_connection(store, error);
}

// Gives: the next result, NULL at the end. Returns: 0 or -1.
static int take_result(struct pg_store *store, PGresult **result, struct vc_error *error)
{
  while (PQisBusy(store->connection)) {
    if (wait_for(store, POLLIN, error) < 0 || consume(store, error) != 0) {
      return -1;
    }
  }
  *result = PQgetResult(store->connection);
  return 0;
}

static int is_good(const PGresult *result)
{
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

// Of several the last, or the first that is not good.
static PGresult *take_results(struct pg_store *store, struct vc_error *error)
{
  PGresult *kept = NULL, *result;
  do {
    if (take_result(store, &result, error) != 0) {
      PQclear(kept);
      return NULL;
    }
    if (result != NULL && (kept == NULL || is_good(kept))) {
      PQclear(kept);
      kept = result;
    } else {
      PQclear(result);
    }
  } while (result != NULL);
  if (!is_good(kept)) { // nor is none
    fail_statement(store, kept, error);
    PQclear(kept);
    return NULL;
  }
  return kept;
}

// What a send gave. Returns: the result, or NULL and the error.
static PGresult *finish(struct pg_store *store, int is_sent, struct vc_error *error)
{
  store->state[0] = '\0';
  if (!is_sent) {
    fail_connection(store, error);
    return NULL;
  }
  return send_all(store, error) == 0 ? take_results(store, error) : NULL;
}

static int is_prepared(const struct pg_store *store, const struct pg_statement *statement)
{
  for (size_t i = 0; i < store->n_prepared; i++) {
    if (store->prepared[i] == statement) {
      return 1;
    }
  }
  return 0;
}

static int prepare(struct pg_store *store, const struct pg_statement *statement,
                   struct vc_error *error)
{
  if (statement->name == NULL || is_prepared(store, statement)) {
    return 0;
  }
  PGresult *result = finish(
      store, PQsendPrepare(store->connection, statement->name, statement->sql, 0, NULL), error);
  if (result == NULL) {
    return -1;
  }
  PQclear(result);
  store->prepared[store->n_prepared++] = statement;
  return 0;
}

static int send_statement(struct pg_store *store, const struct pg_statement *statement,
                          const struct pg_params *params)
{
  static const struct pg_params none = {0};
  params = params != NULL ? params : &none;
  return statement->name != NULL
             ? PQsendQueryPrepared(store->connection, statement->name, params->n, params->values,
                                   params->lengths, params->is_binary, 0)
             : PQsendQueryParams(store->connection, statement->sql, params->n, NULL, params->values,
                                 params->lengths, params->is_binary, 0);
}

PGresult *pg_run(struct pg_store *store, const struct pg_statement *statement,
                 const struct pg_params *params, struct vc_error *error)
{
  return prepare(store, statement, error) == 0
             ? finish(store, send_statement(store, statement, params), error)
             : NULL;
}

long pg_change(struct pg_store *store, const struct pg_statement *statement,
               const struct pg_params *params, struct vc_error *error)
{
  PGresult *result = pg_run(store, statement, params, error);
  if (result == NULL) {
    return -1;
  }
  long n = strtol(PQcmdTuples(result), NULL, 10);
  PQclear(result);
  return n;
}

int pg_do(struct pg_store *store, const char *sql, struct vc_error *error)
{
  PGresult *result = finish(store, PQsendQuery(store->connection, sql), error);
  PQclear(result);
  return result != NULL ? 0 : -1;
}

int pg_ask(struct pg_store *store, const struct pg_statement *statement,
           const struct pg_params *params, struct vc_error *error)
{
  store->state[0] = '\0';
  if (!send_statement(store, statement, params) || !PQsetSingleRowMode(store->connection)) {
    return fail_connection(store, error);
  }
  return send_all(store, error);
}

int pg_take_row(struct pg_store *store, PGresult **row, struct vc_error *error)
{
  PGresult *result;
  if (take_result(store, &result, error) != 0) {
    return -1;
  }
  if (PQresultStatus(result) == PGRES_SINGLE_TUPLE) {
    *row = result;
    return 1;
  }
  int status = is_good(result) ? 0 : fail_statement(store, result, error);
  PQclear(result);
  while (store->connection != NULL && take_result(store, &result, error) == 0 && result != NULL) {
    PQclear(result);
  }
  return store->connection != NULL ? status : -1;
}

int pg_commit(struct pg_store *store, struct vc_error *error)
{
  static const struct pg_statement commit = {NULL, "COMMIT"};
  PGresult *result = pg_run(store, &commit, NULL, error);
  if (result == NULL) {
    return -1;
  }
  // A transaction that failed answers a commit with what it does instead.
  int status = strcmp(PQcmdStatus(result), "COMMIT") == 0 ? 0 : fail_with("no commit", error);
  PQclear(result);
  return status;
}

void pg_roll_back(struct pg_store *store)
{
  char state[sizeof store->state];
  memcpy(state, store->state, sizeof state); // why is asked afterwards
  pg_forget_ids(store); // some may be of rows that are gone with the transaction
  if (store->connection != NULL && PQtransactionStatus(store->connection) != PQTRANS_IDLE &&
      pg_do(store, "ROLLBACK", NULL) != 0 && store->connection != NULL) {
    pg_drop_connection(store);
  }
  memcpy(store->state, state, sizeof state);
}

// --- connecting

static void set_time(struct pg_store *store, unsigned ms)
{
  store->deadline_ns = vc_clock_now_ns(&vc_clock_system) + ms * VC_NS_PER_MS;
}

void pg_restart_time(struct pg_store *store)
{
  set_time(store, PG_CALL_MAX_MS);
}

static int start_connection(struct pg_store *store, struct vc_error *error)
{
  // What stands behind the URL wins over it. The timeouts close what the network has forgotten.
  const char *const rows[][2] = {{"dbname", store->url},
                                 {"client_encoding", "UTF8"},
                                 {"fallback_application_name", "verbacast"},
                                 {"keepalives", "1"},
                                 {"keepalives_idle", "5"},
                                 {"keepalives_interval", "2"},
                                 {"keepalives_count", "3"},
                                 {"tcp_user_timeout", "10000"},
                                 {NULL, NULL}};
  const char *keys[sizeof rows / sizeof *rows], *values[sizeof rows / sizeof *rows];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    keys[i] = rows[i][0];
    values[i] = rows[i][1];
  }
  store->connection = PQconnectStartParams(keys, values, 1);
  if (store->connection == NULL) {
    return vc_error_set(error, "store: no memory");
  }
  PQsetNoticeProcessor(store->connection, ignore_notice, NULL);
  return PQstatus(store->connection) != CONNECTION_BAD ? 0 : fail_connection(store, error);
}

static int finish_connection(struct pg_store *store, struct vc_error *error)
{
  PostgresPollingStatusType status = PGRES_POLLING_WRITING;
  while (status != PGRES_POLLING_OK) {
    if (status == PGRES_POLLING_FAILED) {
      return fail_connection(store, error);
    }
    if (wait_for(store, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, error) < 0) {
      return -1;
    }
    status = PQconnectPoll(store->connection);
  }
  return PQsetnonblocking(store->connection, 1) == 0 ? 0 : fail_connection(store, error);
}

static int check_encoding(struct pg_store *store, struct vc_error *error)
{
  const char *encoding = PQparameterStatus(store->connection, "server_encoding");
  if (encoding != NULL && strcmp(encoding, "UTF8") == 0) {
    return 0;
  }
  vc_error_set(error, "store: PostgreSQL: the database's encoding is %s, it has to be UTF8",
               encoding != NULL ? encoding : "unknown");
  pg_drop_connection(store);
  return -1;
}

static int connect_store(struct pg_store *store, struct vc_error *error)
{
  set_time(store, PG_CONNECT_MAX_MS);
  if (start_connection(store, error) != 0 || finish_connection(store, error) != 0 ||
      check_encoding(store, error) != 0) {
    return -1;
  }
  if (pg_do(store, SETTINGS, error) != 0) {
    pg_drop_connection(store);
    return -1;
  }
  store->base.n_connections++;
  return 0;
}

// A server that has gone has said so on a connection that nobody used.
static int is_alive(struct pg_store *store)
{
  struct pollfd waiting = {.fd = PQsocket(store->connection), .events = POLLIN};
  return PQstatus(store->connection) == CONNECTION_OK &&
         PQtransactionStatus(store->connection) == PQTRANS_IDLE &&
         (poll(&waiting, 1, 0) == 0 ||
          (PQconsumeInput(store->connection) && poll(&waiting, 1, 0) == 0));
}

int pg_begin_call(struct pg_store *store, struct vc_error *error)
{
  store->state[0] = '\0';
  if (store->connection != NULL && !is_alive(store)) {
    pg_drop_connection(store);
  }
  if (store->connection == NULL && connect_store(store, error) != 0) {
    return -1;
  }
  pg_restart_time(store);
  return 0;
}
