// The batch as a whole: one transaction, and what is done when the database refuses something of
// it. That it does for an id that was remembered and is gone, and then all is asked for anew; or
// for a row that it will never take, and then the batch is halved until that row is alone.
#include "postgres.h"

#include <verbacast/wire/json.h>

#include <stdlib.h>
#include <string.h>

enum attempt {
  ATTEMPT_PLAIN,
  ATTEMPT_ANEW, // with no id remembered
  ATTEMPT_HALVING,
  N_ATTEMPTS,
};

struct pg_writer {
  struct pg_store *store;
  const struct vc_store_batch *batch;
  struct pg_item *items;
  int has_erasures;
  enum attempt attempt;
  struct vc_error *error;
};

static const char why_refused[] = "the database refuses it";
static const char why_long[] = "session, utteranceId or speaker is longer than the database takes";

static int is_long(const char *text)
{
  return text != NULL && strlen(text) > PG_KEY_BYTES_MAX;
}

static void poison(struct pg_item *item, const char *why)
{
  item->row->epoch = item->record.fields.epoch; // an erasure of an older one does not keep it out
  vc_record_parsed_fini(&item->record);
  item->row->why = why;
}

static int parse(struct pg_writer *writer, size_t at)
{
  struct pg_item *item = &writer->items[at];
  item->row = &writer->batch->rows[at];
  if (store_parse(item->row, &item->record) != 0) {
    return item->row->why == vc_json_no_memory ? -1 : 0;
  }
  const struct vc_record_fields *fields = &item->record.fields;
  writer->has_erasures |= fields->type == VC_RECORD_TYPE_SESSION_ERASED;
  if (is_long(fields->session) || is_long(fields->utterance_id) || is_long(fields->speaker)) {
    poison(item, why_long);
  }
  return 0;
}

static int is_refused(const struct pg_store *store)
{
  return pg_has_failed_with(store, "22") || // the value is none
         pg_has_failed_with(store, "23") || // it does not go with the others
         pg_has_failed_with(store, "54");   // it is too much
}

static int write_span(struct pg_writer *writer, struct pg_item *items, size_t n)
{
  return pg_write_items(writer->store, items, n, writer->batch->bury == NULL, writer->error);
}

static int roll_back_span(struct pg_writer *writer)
{
  pg_forget_ids(writer->store);
  return pg_do(writer->store, "ROLLBACK TO SAVEPOINT span; RELEASE SAVEPOINT span", writer->error);
}

static int write_halving(struct pg_writer *writer, struct pg_item *items, size_t n)
{
  if (pg_do(writer->store, "SAVEPOINT span", writer->error) != 0) {
    return -1;
  }
  if (write_span(writer, items, n) == 0) {
    return pg_do(writer->store, "RELEASE SAVEPOINT span", writer->error);
  }
  if (!is_refused(writer->store) || roll_back_span(writer) != 0) {
    return -1;
  }
  if (n == 1) {
    poison(items, why_refused);
    return write_span(writer, items, 1);
  }
  return write_halving(writer, items, n / 2) == 0 &&
                 write_halving(writer, items + n / 2, n - n / 2) == 0
             ? 0
             : -1;
}

static int is_erasure(const struct pg_item *item)
{
  return item->record.root != NULL && item->record.fields.type == VC_RECORD_TYPE_SESSION_ERASED;
}

// Returns: how many items from here on do not erase.
static size_t length_of_span(const struct pg_writer *writer, size_t at)
{
  size_t n = 0;
  while (at + n < writer->batch->n_rows && !is_erasure(&writer->items[at + n])) {
    n++;
  }
  return n;
}

static int write_rows(struct pg_writer *writer)
{
  size_t at = 0;
  while (at < writer->batch->n_rows) {
    size_t n = length_of_span(writer, at);
    struct pg_item *items = &writer->items[at];
    int status = n == 0 ? pg_write_erasure(writer->store, items, writer->error)
                 : writer->attempt == ATTEMPT_HALVING ? write_halving(writer, items, n)
                                                      : write_span(writer, items, n);
    if (status != 0) {
      return -1;
    }
    at += n > 0 ? n : 1;
  }
  return 0;
}

// Its caller may wait for others as long as it thinks right.
static int bury(struct pg_writer *writer)
{
  const struct vc_store_batch *batch = writer->batch;
  size_t n_dead = 0;
  for (size_t i = 0; i < batch->n_rows; i++) {
    n_dead +=
        batch->rows[i].outcome == VC_STORE_CONFLICT || batch->rows[i].outcome == VC_STORE_POISONED;
  }
  if (n_dead == 0 || batch->bury == NULL) {
    return 0;
  }
  int status = batch->bury(batch->context, batch->rows, batch->n_rows, writer->error);
  pg_restart_time(writer->store);
  return status;
}

// Returns: 0; 1: a position is not where it is said to be; -1.
static int write_once(struct pg_writer *writer)
{
  struct pg_store *store = writer->store;
  int status =
      pg_do(store, writer->has_erasures ? PG_BEGIN_DELETING : PG_BEGIN_WRITING, writer->error);
  if (status == 0) {
    status = pg_move_positions(store, writer->batch, writer->error);
  }
  if (status == 0) {
    status = write_rows(writer);
  }
  if (status == 0) {
    status = bury(writer);
  }
  if (status == 0) {
    status = pg_commit(store, writer->error);
  }
  if (status != 0) {
    pg_roll_back(store);
  }
  return status;
}

static int thin_out(struct pg_writer *writer)
{
  for (size_t i = 0; i < writer->batch->n_rows; i++) {
    const struct vc_record_fields *fields = &writer->items[i].record.fields;
    if (is_erasure(&writer->items[i]) &&
        pg_thin_out(writer->store, fields->session, fields->epoch, writer->error) < 0) {
      return -1;
    }
  }
  return 0;
}

static int write_all(struct pg_writer *writer)
{
  for (size_t i = 0; i < writer->batch->n_rows; i++) {
    if (parse(writer, i) != 0) {
      return vc_error_set(writer->error, "store: no memory");
    }
  }
  if (writer->has_erasures && thin_out(writer) != 0) {
    return -1;
  }
  int status = -1;
  for (int i = 0; i < N_ATTEMPTS; i++) {
    writer->attempt = (enum attempt)i;
    status = write_once(writer);
    if (status >= 0 || !is_refused(writer->store)) {
      break;
    }
  }
  return status;
}

int pg_write_batch(struct vc_store *base, const struct vc_store_batch *batch,
                   struct vc_error *error)
{
  struct pg_store *store = (struct pg_store *)base;
  struct pg_writer writer = {.store = store, .batch = batch, .error = error};
  if (pg_begin_call(store, error) != 0) {
    return -1;
  }
  writer.items = calloc(batch->n_rows + 1, sizeof *writer.items);
  if (writer.items == NULL) {
    return vc_error_set(error, "store: no memory");
  }
  int status = write_all(&writer);
  for (size_t i = 0; i < batch->n_rows; i++) {
    vc_record_parsed_fini(&writer.items[i].record);
  }
  free(writer.items);
  return status;
}
