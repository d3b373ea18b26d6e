#include "place.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void print(char *into, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void print(char *into, size_t size, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(into, size, format, arguments);
  va_end(arguments);
  assert_true(n >= 0 && (size_t)n < size);
}

static void run_postgres(PGconn *postgres, const char *sql)
{
  PGresult *result = PQexec(postgres, sql);
  ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    fail_msg("%s", PQerrorMessage(postgres));
  }
  PQclear(result);
}

static void ignore_notice(void *context, const char *message) {}

static void make_schema(struct place *place, const char *server)
{
  static int n_made;
  char sql[256];
  place->postgres = PQconnectdb(server);
  if (PQstatus(place->postgres) != CONNECTION_OK) {
    fail_msg("%s", PQerrorMessage(place->postgres));
  }
  PQsetNoticeProcessor(place->postgres, ignore_notice, NULL);
  print(place->schema, sizeof place->schema, "t%d_%d", (int)getpid(), ++n_made);
  print(place->url, sizeof place->url, "%s?options=-csearch_path%%3D%s", server, place->schema);
  print(sql, sizeof sql, "CREATE SCHEMA %s; SET search_path = %s", place->schema, place->schema);
  run_postgres(place->postgres, sql);
}

void place_make(struct place *place)
{
  const char *server = getenv("VC_TEST_POSTGRES");
  memset(place, 0, sizeof *place);
  if (server != NULL && server[0] != '\0') {
    make_schema(place, server);
  } else {
    folder_make(&place->folder);
    print(place->url, sizeof place->url, "sqlite:%s", folder_file(&place->folder, "store.db"));
  }
}

void place_remove(struct place *place)
{
  char sql[256];
  if (place->postgres == NULL) {
    folder_remove(&place->folder);
    return;
  }
  print(sql, sizeof sql, "DROP SCHEMA %s CASCADE", place->schema);
  run_postgres(place->postgres, sql);
  PQfinish(place->postgres);
  place->postgres = NULL;
}

int place_open(struct place *place, struct vc_store **store)
{
  struct vc_error error;
  place_make(place);
  return vc_store_open(store, place->url, &error);
}

int place_close(struct place *place, struct vc_store **store)
{
  vc_store_close(store);
  place_remove(place);
  return 0;
}

static void ask_sqlite(const struct place *place, const char *sql, char *answer, size_t size)
{
  sqlite3 *database;
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_open(place->url + strlen("sqlite:"), &database), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(database, sql, -1, &statement, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  const char *text = (const char *)sqlite3_column_text(statement, 0);
  print(answer, size, "%s", text != NULL ? text : "NULL");
  sqlite3_finalize(statement);
  sqlite3_close(database);
}

static void ask_postgres(const struct place *place, const char *sql, char *answer, size_t size)
{
  PGresult *result = PQexec(place->postgres, sql);
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    fail_msg("%s", PQerrorMessage(place->postgres));
  }
  assert_int_equal(PQntuples(result), 1);
  print(answer, size, "%s", PQgetisnull(result, 0, 0) ? "NULL" : PQgetvalue(result, 0, 0));
  PQclear(result);
}

const char *place_ask(const struct place *place, const char *sqlite, const char *postgres)
{
  static char answer[512];
  if (place->postgres != NULL) {
    ask_postgres(place, postgres != NULL ? postgres : sqlite, answer, sizeof answer);
  } else {
    ask_sqlite(place, sqlite, answer, sizeof answer);
  }
  return answer;
}

void place_run(const struct place *place, const char *sql)
{
  sqlite3 *database;
  if (place->postgres != NULL) {
    run_postgres(place->postgres, sql);
    return;
  }
  assert_int_equal(sqlite3_open(place->url + strlen("sqlite:"), &database), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(database);
}

int place_holds(const struct place *place, const char *text)
{
  char sql[512];
  if (place->postgres == NULL) {
    return folder_holds(&place->folder, text);
  }
  print(sql, sizeof sql,
        "SELECT (SELECT count(*) FROM transcripts t WHERE strpos(t::text, '%s') > 0)"
        " + (SELECT count(*) FROM dead WHERE position('%s'::bytea IN value) > 0)",
        text, text);
  return strcmp(place_ask(place, sql, sql), "0") != 0;
}
