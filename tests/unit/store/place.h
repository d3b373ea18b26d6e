// Where a test's store is: a folder with a SQLite file, or, where VC_TEST_POSTGRES has the URL of a
// server, a schema of its own there. So the same tests run on both.
#pragma once

#include "store_rig.h"

#include <libpq-fe.h>

struct place {
  struct folder folder; // of SQLite
  PGconn *postgres;     // NULL: it is SQLite
  char schema[32];
  char url[256];
};

// Asserts that it works, as all of these.
void place_make(struct place *place);
void place_remove(struct place *place);
// The same with a store that is open there. Return: what cmocka wants of set_up and tear_down.
int place_open(struct place *place, struct vc_store **store);
int place_close(struct place *place, struct vc_store **store);
// What one SELECT of one value says, "NULL" if it is that; good until the next call. PostgreSQL is
// asked the second, the first if that is NULL.
const char *place_ask(const struct place *place, const char *sqlite, const char *postgres);
void place_run(const struct place *place, const char *sql);
// Returns: 1 when the text stands anywhere in what is kept; of SQLite in the bytes of its files.
int place_holds(const struct place *place, const char *text);
