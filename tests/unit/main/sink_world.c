#include "sink_world.h"

#include <verbacast/store.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct world world;

struct vc_kafka_consumer {
  struct vc_kafka_consumer_settings settings;
};
static struct vc_kafka_consumer consumer;

static uint64_t monotonic_ns(void *context)
{
  return world.now_ns;
}

static int64_t unix_us(void *context)
{
  return INT64_C(1790000000000000) + (int64_t)(world.now_ns / 1000);
}

const struct vc_clock world_clock = {monotonic_ns, unix_us, NULL};

int world_is_poison(int64_t offset)
{
  return offset % 50 == 7;
}

int world_is_tombstone(int64_t offset)
{
  return offset % 50 == 11;
}

void world_init(int64_t n_records)
{
  static const struct {
    const char *topic;
    int32_t number;
  } rows[WORLD_PARTITIONS] = {{"transcripts", 0}, {"transcripts", 1}, {"transcripts.sessions", 0}};
  memset(&world, 0, sizeof world);
  world.now_ns = VC_NS_PER_S;
  for (size_t p = 0; p < WORLD_PARTITIONS; p++) {
    struct world_partition *partition = &world.partitions[p];
    partition->topic = rows[p].topic;
    partition->number = rows[p].number;
    partition->n_records = n_records;
    partition->stored = -1;
    for (int i = 0; i < WORLD_RECORDS; i++) {
      snprintf(partition->values[i], sizeof partition->values[i], "%zu/%d", p, i);
    }
  }
}

void world_write(struct world_partition *partition, int64_t upto)
{
  for (int64_t i = partition->stored < 0 ? 0 : partition->stored; i < upto; i++) {
    partition->n_written[i] += !world_is_tombstone(i);
  }
  partition->stored = upto;
}

static struct world_partition *find(const char *topic, int32_t number)
{
  for (size_t p = 0; p < WORLD_PARTITIONS; p++) {
    if (world.partitions[p].number == number && strcmp(world.partitions[p].topic, topic) == 0) {
      return &world.partitions[p];
    }
  }
  fail_msg("no partition %s/%d", topic, (int)number);
  return NULL;
}

// --- the brokers

static size_t list_ours(struct vc_kafka_position positions[WORLD_PARTITIONS])
{
  size_t n = 0;
  for (size_t p = 0; p < WORLD_PARTITIONS; p++) {
    if (world.partitions[p].is_ours) {
      positions[n++] = (struct vc_kafka_position){
          .topic = world.partitions[p].topic, .partition = world.partitions[p].number, .next = -1};
    }
  }
  return n;
}

void world_assign(size_t n)
{
  struct vc_kafka_position positions[WORLD_PARTITIONS];
  size_t n_before = list_ours(positions);
  if (n_before > 0 && !world.is_unplaced) {
    consumer.settings.revoked(consumer.settings.context, positions, n_before);
  }
  for (size_t p = 0; p < WORLD_PARTITIONS; p++) {
    world.partitions[p].is_ours = p < n;
  }
  world.is_unplaced = 1;
}

static void place(void)
{
  struct vc_kafka_position positions[WORLD_PARTITIONS];
  struct vc_error error;
  size_t n = list_ours(positions);
  world.is_unplaced =
      consumer.settings.assigned(consumer.settings.context, positions, n, &error) != 0;
  for (size_t i = 0; i < n && !world.is_unplaced; i++) {
    find(positions[i].topic, positions[i].partition)->next =
        positions[i].next >= 0 ? positions[i].next : 0;
  }
}

int vc_kafka_consumer_create(struct vc_kafka_consumer **out,
                             const struct vc_kafka_consumer_settings *settings,
                             struct vc_error *error)
{
  consumer.settings = *settings;
  *out = &consumer;
  return 0;
}

void vc_kafka_consumer_destroy(struct vc_kafka_consumer **out)
{
  if (*out != NULL) {
    world.n_closed++;
    world_assign(0);
    *out = NULL;
  }
}

int vc_kafka_consumer_poll(struct vc_kafka_consumer *consumer_in, uint32_t wait_ms,
                           struct vc_kafka_consumed *consumed, struct vc_error *error)
{
  static const char key[] = "demo!";
  if (world.cannot != NULL) {
    return vc_error_set(error, "%s", world.cannot);
  }
  if (world.is_unplaced) {
    place();
  }
  for (size_t p = 0; p < WORLD_PARTITIONS && !world.is_paused && !world.is_unplaced; p++) {
    struct world_partition *partition = &world.partitions[p];
    if (partition->is_ours && partition->next < partition->n_records) {
      int64_t offset = partition->next++;
      const char *value = world_is_tombstone(offset) ? NULL : partition->values[offset];
      *consumed = (struct vc_kafka_consumed){.topic = partition->topic,
                                             .partition = partition->number,
                                             .offset = offset,
                                             .key = key,
                                             .key_size = 4,
                                             .value = value,
                                             .size = value != NULL ? strlen(value) : 0,
                                             .produced_ms = unix_us(NULL) / 1000 - 40,
                                             .message = malloc(1)}; // asan sees what is let go of
      return 1;
    }
  }
  world.now_ns += wait_ms * VC_NS_PER_MS;
  return 0;
}

void vc_kafka_consumed_fini(struct vc_kafka_consumed *consumed)
{
  free(consumed->message);
}

void vc_kafka_consumer_pause(struct vc_kafka_consumer *consumer_in)
{
  assert_false(world.is_paused);
  world.is_paused = 1;
}

void vc_kafka_consumer_resume(struct vc_kafka_consumer *consumer_in)
{
  assert_true(world.is_paused);
  world.is_paused = 0;
}

int vc_kafka_consumer_seek(struct vc_kafka_consumer *consumer_in,
                           const struct vc_kafka_position *position)
{
  struct world_partition *partition = find(position->topic, position->partition);
  partition->next = position->next >= 0 ? position->next : 0;
  return partition->is_ours ? 0 : -1;
}

const char *vc_kafka_consumer_cluster(struct vc_kafka_consumer *consumer_in)
{
  return world.is_cluster_unknown ? NULL : "c1";
}

const char *vc_kafka_consumer_trouble(struct vc_kafka_consumer *consumer_in)
{
  return world.trouble;
}

// --- the dead letters' topic

int vc_kafka_producer_create(struct vc_kafka_producer **producer,
                             const struct vc_kafka_producer_settings *settings,
                             struct vc_error *error)
{
  *producer = malloc(1);
  return *producer != NULL ? 0 : -1;
}

void vc_kafka_producer_destroy(struct vc_kafka_producer **producer, uint32_t flush_ms)
{
  free(*producer);
  *producer = NULL;
}

int vc_kafka_producer_send(struct vc_kafka_producer *producer, struct vc_kafka_record *records,
                           size_t n_records, uint32_t wait_ms, struct vc_error *error)
{
  world.n_letter_tries++;
  world.letter_id = records[0].id;
  if (world.letters_are_away) {
    world.now_ns += wait_ms * VC_NS_PER_MS;
    vc_error_set(error, "no broker");
    return 1;
  }
  for (size_t i = 0; i < n_records; i++) {
    assert_int_equal(records[i].topic, VC_KAFKA_DEAD);
    records[i].hopeless = world.hopeless;
    world.letter = *records[i].source;
    world.n_letters += world.hopeless == NULL;
  }
  return 0;
}

// --- the database

int vc_store_open(struct vc_store **store, const char *url, struct vc_error *error)
{
  if (world.is_away) {
    return vc_error_set(error, "no database");
  }
  world.n_opened++;
  *store = malloc(1);
  return *store != NULL ? 0 : -1;
}

void vc_store_close(struct vc_store **store)
{
  free(*store);
  *store = NULL;
}

unsigned vc_store_connections(const struct vc_store *store)
{
  return 1 + world.n_reconnects;
}

static int is_same(const struct vc_store_batch *batch)
{
  for (size_t i = 0; i < batch->n_positions; i++) {
    const struct vc_store_position *position = &batch->positions[i];
    if (find(position->topic, position->partition)->stored != position->from) {
      return 0;
    }
  }
  return 1;
}

static size_t judge(struct vc_store_row *rows, size_t n_rows)
{
  size_t n_dead = 0;
  for (size_t i = 0; i < n_rows; i++) {
    int is_poison = world_is_poison(strtol(strchr(rows[i].value, '/') + 1, NULL, 10));
    assert_string_equal(rows[i].key, "demo");
    rows[i].outcome = is_poison ? VC_STORE_POISONED : VC_STORE_STORED;
    rows[i].why = is_poison ? "it is no record" : NULL;
    n_dead += (size_t)is_poison;
  }
  return n_dead;
}

static void commit(const struct vc_store_batch *batch)
{
  for (size_t i = 0; i < batch->n_rows; i++) {
    size_t p = (size_t)strtol(batch->rows[i].value, NULL, 10);
    world.partitions[p].n_written[strtol(strchr(batch->rows[i].value, '/') + 1, NULL, 10)]++;
  }
  for (size_t i = 0; i < batch->n_positions; i++) {
    const struct vc_store_position *position = &batch->positions[i];
    find(position->topic, position->partition)->stored = position->next;
  }
  world.n_batches++;
  world.n_last_rows = batch->n_rows;
}

int vc_store_write_batch(struct vc_store *store, const struct vc_store_batch *batch,
                         struct vc_error *error)
{
  if (world.is_away) {
    return vc_error_set(error, "no database");
  }
  if (!is_same(batch) || (world.n_mistaken > 0 && world.n_mistaken-- > 0)) {
    return 1;
  }
  if (judge(batch->rows, batch->n_rows) > 0 &&
      batch->bury(batch->context, batch->rows, batch->n_rows, error) != 0) {
    return -1;
  }
  commit(batch);
  if (world.n_lost_answers > 0) {
    world.n_lost_answers--;
    return vc_error_set(error, "the connection broke");
  }
  return 0;
}

int vc_store_find_position(struct vc_store *store, const char *cluster, const char *group,
                           const char *topic, int32_t partition, int64_t *next,
                           struct vc_error *error)
{
  *next = find(topic, partition)->stored;
  return world.is_away ? vc_error_set(error, "no database") : 0;
}

int vc_store_find_other_cluster(struct vc_store *store, const char *cluster, const char *group,
                                char *other, size_t size, struct vc_error *error)
{
  snprintf(other, size, "%s", world.other_cluster != NULL ? world.other_cluster : "");
  return world.other_cluster != NULL;
}

int vc_store_reset_positions(struct vc_store *store, const char *group, struct vc_error *error)
{
  world.n_resets++;
  for (size_t p = 0; p < WORLD_PARTITIONS; p++) {
    world.partitions[p].stored = -1;
  }
  return 0;
}

int vc_store_expire(struct vc_store *store, int64_t before_unix_ms, long most,
                    struct vc_store_expiry *expiry, struct vc_error *error)
{
  long n = world.n_to_expire < most ? world.n_to_expire : most;
  world.n_expired_calls++;
  world.expire_before_ms = before_unix_ms;
  world.n_to_expire -= n;
  *expiry = (struct vc_store_expiry){.n_gone = n, .has_more = n == most};
  return 0;
}
