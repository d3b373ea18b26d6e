#include "sink_batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int sink_batch_init(struct sink_batch *batch, size_t most)
{
  *batch = (struct sink_batch){.most = most};
  batch->rows = calloc(most, sizeof *batch->rows);
  batch->shown = calloc(most, sizeof *batch->shown);
  if (batch->rows == NULL || batch->shown == NULL) {
    sink_batch_fini(batch);
    return -1;
  }
  return 0;
}

static void let_go(struct sink_batch *batch)
{
  for (size_t i = 0; i < batch->n_rows; i++) {
    vc_kafka_consumed_fini(&batch->rows[i].consumed);
  }
  batch->n_rows = 0;
}

void sink_batch_fini(struct sink_batch *batch)
{
  let_go(batch);
  free(batch->rows);
  free(batch->shown);
  free(batch->positions);
  free(batch->moved);
  *batch = (struct sink_batch){0};
}

// --- partitions

static struct sink_position *find(const struct sink_batch *batch, const char *topic,
                                  int32_t partition)
{
  for (size_t i = 0; i < batch->n_positions; i++) {
    struct sink_position *position = &batch->positions[i];
    if (position->partition == partition && strcmp(position->topic, topic) == 0) {
      return position;
    }
  }
  return NULL;
}

static int grow(struct sink_batch *batch)
{
  size_t capacity = batch->positions_capacity > 0 ? batch->positions_capacity * 2 : 16;
  struct sink_position *positions = realloc(batch->positions, capacity * sizeof *positions);
  batch->positions = positions != NULL ? positions : batch->positions;
  struct vc_store_position *moved = realloc(batch->moved, capacity * sizeof *moved);
  batch->moved = moved != NULL ? moved : batch->moved;
  if (positions == NULL || moved == NULL) {
    return -1;
  }
  batch->positions_capacity = capacity;
  return 0;
}

int sink_batch_assign(struct sink_batch *batch, const char *topic, int32_t partition, int64_t next)
{
  sink_batch_revoke(batch, topic, partition);
  size_t size = strlen(topic);
  assert(size <= VC_KAFKA_TOPIC_MAX);
  if (batch->n_positions == batch->positions_capacity && grow(batch) != 0) {
    return -1;
  }
  struct sink_position *position = &batch->positions[batch->n_positions++];
  *position = (struct sink_position){.partition = partition, .from = next, .next = next};
  memcpy(position->topic, topic, size);
  return 0;
}

static size_t let_go_of(struct sink_batch *batch, const char *topic, int32_t partition)
{
  size_t n_kept = 0, n_rows = batch->n_rows;
  for (size_t i = 0; i < n_rows; i++) {
    struct sink_row *row = &batch->rows[i];
    if (row->consumed.partition == partition && strcmp(row->consumed.topic, topic) == 0) {
      vc_kafka_consumed_fini(&row->consumed);
    } else {
      batch->rows[n_kept++] = *row;
    }
  }
  batch->n_rows = n_kept;
  return n_rows - n_kept;
}

size_t sink_batch_revoke(struct sink_batch *batch, const char *topic, int32_t partition)
{
  struct sink_position *position = find(batch, topic, partition);
  if (position == NULL) {
    return 0;
  }
  size_t n = let_go_of(batch, topic, partition);
  *position = batch->positions[--batch->n_positions];
  return n;
}

// --- records

static void copy_key(const struct vc_kafka_consumed *consumed, char key[VC_SLUG_MAX + 1])
{
  int is_slug = consumed->key != NULL && consumed->key_size <= VC_SLUG_MAX &&
                vc_slug_is_valid(consumed->key, consumed->key_size);
  size_t size = is_slug ? consumed->key_size : 0;
  memcpy(key, size > 0 ? consumed->key : "", size);
  key[size] = '\0';
}

int sink_batch_put(struct sink_batch *batch, struct vc_kafka_consumed *consumed, uint64_t now_ns)
{
  struct sink_position *position = find(batch, consumed->topic, consumed->partition);
  if (position == NULL || consumed->offset < position->next) {
    vc_kafka_consumed_fini(consumed);
    return 1;
  }
  if (sink_batch_is_empty(batch)) {
    batch->first_ns = now_ns;
  }
  position->next = consumed->offset + 1;
  if (consumed->value == NULL) {
    vc_kafka_consumed_fini(consumed);
    return 0;
  }
  assert(!sink_batch_is_full(batch));
  struct sink_row *row = &batch->rows[batch->n_rows++];
  row->consumed = *consumed;
  row->id = ++batch->last_id;
  copy_key(consumed, row->key);
  return 0;
}

int sink_batch_is_empty(const struct sink_batch *batch)
{
  for (size_t i = 0; i < batch->n_positions; i++) {
    if (batch->positions[i].next != batch->positions[i].from) {
      return 0;
    }
  }
  return 1;
}

int sink_batch_is_full(const struct sink_batch *batch)
{
  return batch->n_rows == batch->most;
}

// --- what becomes of it

void sink_batch_show(struct sink_batch *batch)
{
  for (size_t i = 0; i < batch->n_rows; i++) {
    const struct sink_row *row = &batch->rows[i];
    batch->shown[i] = (struct vc_store_row){.topic = row->consumed.topic,
                                            .key = row->key[0] != '\0' ? row->key : NULL,
                                            .value = row->consumed.value,
                                            .size = row->consumed.size};
  }
  batch->n_moved = 0;
  for (size_t i = 0; i < batch->n_positions; i++) {
    const struct sink_position *position = &batch->positions[i];
    if (position->next != position->from) {
      batch->moved[batch->n_moved++] = (struct vc_store_position){.topic = position->topic,
                                                                  .partition = position->partition,
                                                                  .from = position->from,
                                                                  .next = position->next};
    }
  }
}

void sink_batch_settle(struct sink_batch *batch)
{
  let_go(batch);
  for (size_t i = 0; i < batch->n_positions; i++) {
    batch->positions[i].from = batch->positions[i].next;
  }
}

size_t sink_batch_rewind(struct sink_batch *batch)
{
  size_t n = batch->n_rows;
  let_go(batch);
  for (size_t i = 0; i < batch->n_positions; i++) {
    batch->positions[i].from = batch->positions[i].next = batch->positions[i].found;
  }
  return n;
}
