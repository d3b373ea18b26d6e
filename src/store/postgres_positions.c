// How far a group has read, as the table says.
#include "postgres.h"

#include <stdio.h>

static int add_positions(struct pg_params *params, const struct vc_store_batch *batch,
                         struct pg_array columns[4])
{
  static const enum pg_type types[] = {PG_TEXT, PG_INTEGER, PG_BIGINT, PG_BIGINT};
  int has_failed = 0;
  for (size_t i = 0; i < 4; i++) {
    pg_array_init(&columns[i], types[i]);
  }
  for (size_t i = 0; i < batch->n_positions; i++) {
    const struct vc_store_position *position = &batch->positions[i];
    pg_array_add_text(&columns[0], position->topic);
    pg_array_add_integer(&columns[1], position->partition);
    pg_array_add_number(&columns[2], position->from);
    pg_array_add_number(&columns[3], position->next);
  }
  pg_add_text(params, batch->cluster);
  pg_add_text(params, batch->group);
  for (size_t i = 0; i < 4; i++) {
    has_failed |= columns[i].bytes.has_failed;
    pg_add_array(params, &columns[i]);
  }
  return has_failed ? -1 : 0;
}

#define POSITIONS "unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[]) AS p (t, p, f, n)"
static const struct pg_statement begin_positions = {
    "begin_positions", "INSERT INTO offsets (cluster_id, grp, topic, partition, next_offset)"
                       " SELECT $1, $2, p.t, p.p, p.n FROM " POSITIONS " WHERE p.f < 0"
                       " ON CONFLICT DO NOTHING"};
static const struct pg_statement move_positions = {
    "move_positions", "UPDATE offsets o SET next_offset = p.n FROM " POSITIONS
                      " WHERE o.cluster_id = $1 AND o.grp = $2 AND o.topic = p.t"
                      " AND o.partition = p.p AND o.next_offset = p.f AND p.f >= 0"};

static int run_both(struct pg_store *store, const struct vc_store_batch *batch,
                    const struct pg_params *params, struct vc_error *error)
{
  long n_new = 0;
  for (size_t i = 0; i < batch->n_positions; i++) {
    n_new += batch->positions[i].from < 0;
  }
  long n_begun = n_new > 0 ? pg_change(store, &begin_positions, params, error) : 0;
  if (n_begun != n_new) {
    return n_begun < 0 ? -1 : 1;
  }
  long n_old = (long)batch->n_positions - n_new;
  long n_moved = n_old > 0 ? pg_change(store, &move_positions, params, error) : 0;
  return n_moved == n_old ? 0 : n_moved < 0 ? -1 : 1;
}

int pg_move_positions(struct pg_store *store, const struct vc_store_batch *batch,
                      struct vc_error *error)
{
  struct pg_array columns[4];
  struct pg_params params = {0};
  if (batch->n_positions == 0) {
    return 0;
  }
  int status = add_positions(&params, batch, columns) == 0
                   ? run_both(store, batch, &params, error)
                   : vc_error_set(error, "store: no memory");
  for (size_t i = 0; i < 4; i++) {
    pg_array_fini(&columns[i]);
  }
  return status;
}

int pg_find_position(struct vc_store *base, const char *cluster, const char *group,
                     const char *topic, int32_t partition, int64_t *next, struct vc_error *error)
{
  static const struct pg_statement find = {
      NULL, "SELECT next_offset FROM offsets WHERE cluster_id = $1 AND grp = $2 AND topic = $3"
            " AND partition = $4::bigint"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  pg_add_text(&params, cluster);
  pg_add_text(&params, group);
  pg_add_text(&params, topic);
  pg_add_number(&params, partition);
  PGresult *result = pg_begin_call(store, error) == 0 ? pg_run(store, &find, &params, error) : NULL;
  if (result == NULL) {
    return -1;
  }
  *next = PQntuples(result) > 0 ? pg_number_of(result, 0, 0) : -1;
  PQclear(result);
  return 0;
}

int pg_find_other_cluster(struct vc_store *base, const char *cluster, const char *group,
                          char *other, size_t size, struct vc_error *error)
{
  static const struct pg_statement find = {
      NULL, "SELECT cluster_id FROM offsets WHERE grp = $2 AND NOT EXISTS (SELECT 1 FROM offsets"
            " WHERE grp = $2 AND cluster_id = $1) LIMIT 1"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  pg_add_text(&params, cluster);
  pg_add_text(&params, group);
  PGresult *result = pg_begin_call(store, error) == 0 ? pg_run(store, &find, &params, error) : NULL;
  if (result == NULL) {
    return -1;
  }
  int is_found = PQntuples(result) > 0;
  if (is_found) {
    snprintf(other, size, "%s", PQgetvalue(result, 0, 0));
  }
  PQclear(result);
  return is_found;
}

int pg_reset_positions(struct vc_store *base, const char *group, struct vc_error *error)
{
  static const struct pg_statement forget = {NULL, "DELETE FROM offsets WHERE grp = $1"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  pg_add_text(&params, group);
  return pg_begin_call(store, error) == 0 && pg_change(store, &forget, &params, error) >= 0 ? 0
                                                                                            : -1;
}
