// How far a group has read, as the table says.
#include "sqlite.h"

#include <stdio.h>

int sqlite_find_position(struct vc_store *base, const char *cluster, const char *group,
                         const char *topic, int32_t partition, int64_t *next,
                         struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  sqlite3_stmt *statement =
      sqlite_prepare(store,
                     "SELECT next_offset FROM offsets WHERE cluster_id = ?1 AND grp = ?2"
                     " AND topic = ?3 AND partition = ?4",
                     error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, cluster, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, group, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 3, topic, -1, SQLITE_STATIC);
  sqlite3_bind_int(statement, 4, partition);
  int status = sqlite_one_number(store, statement, next, error);
  sqlite3_finalize(statement);
  if (status == 0) {
    *next = -1;
  }
  return status < 0 ? -1 : 0;
}

int sqlite_find_other_cluster(struct vc_store *base, const char *cluster, const char *group,
                              char *other, size_t size, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  sqlite3_stmt *statement =
      sqlite_prepare(store,
                     "SELECT cluster_id FROM offsets WHERE grp = ?2 AND NOT EXISTS (SELECT 1 FROM"
                     " offsets WHERE grp = ?2 AND cluster_id = ?1) LIMIT 1",
                     error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, cluster, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, group, -1, SQLITE_STATIC);
  int status = sqlite3_step(statement);
  if (status == SQLITE_ROW) {
    snprintf(other, size, "%s", (const char *)sqlite3_column_text(statement, 0));
  }
  int outcome = status == SQLITE_ROW    ? 1
                : status == SQLITE_DONE ? 0
                                        : sqlite_fail(store, "positions", error);
  sqlite3_finalize(statement);
  return outcome;
}

int sqlite_reset_positions(struct vc_store *base, const char *group, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  int64_t unused;
  sqlite3_stmt *statement = sqlite_prepare(store, "DELETE FROM offsets WHERE grp = ?1", error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, group, -1, SQLITE_STATIC);
  int status = sqlite_one_number(store, statement, &unused, error);
  sqlite3_finalize(statement);
  return status;
}
