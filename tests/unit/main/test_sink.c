// The sink's work against a Kafka and a database that are turned by hand.
#include "sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sink_world.h"

#define TURNS_MAX 100000

struct rig {
  struct sink_options options;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct sink *sink;
  struct vc_error error;
};

static struct rig *begin(int64_t n_records)
{
  struct rig *rig = calloc(1, sizeof *rig);
  assert_non_null(rig);
  world_init(n_records);
  rig->options = (struct sink_options){.kafka_group = "g",
                                       .store = {.database_url = "sqlite:x",
                                                 .batch_flush_interval_ms = 300,
                                                 .batch_max_size = 10,
                                                 .batch_max_queue = 100}};
  rig->metrics = vc_metrics_create(&world_clock);
  rig->health = vc_health_create(&world_clock);
  return rig;
}

static void create(struct rig *rig)
{
  const struct sink_settings settings = {.options = &rig->options,
                                         .node = "s1",
                                         .clock = &world_clock,
                                         .metrics = rig->metrics,
                                         .health = rig->health};
  assert_int_equal(sink_create(&rig->sink, &settings, &rig->error), 0);
}

static struct rig *begin_assigned(int64_t n_records, size_t n_partitions)
{
  struct rig *rig = begin(n_records);
  create(rig);
  world_assign(n_partitions);
  return rig;
}

static void end(struct rig *rig)
{
  sink_destroy(&rig->sink);
  vc_health_destroy(&rig->health);
  vc_metrics_destroy(&rig->metrics);
  free(rig);
}

static void turn(struct rig *rig)
{
  assert_int_equal(sink_turn(rig->sink, &rig->error), 0);
}

static void turn_for(struct rig *rig, uint64_t ms)
{
  uint64_t end_ns = world.now_ns + ms * VC_NS_PER_MS;
  for (int i = 0; i < TURNS_MAX && world.now_ns < end_ns; i++) {
    turn(rig);
  }
  assert_true(world.now_ns >= end_ns);
}

static uint64_t count(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

static const char *degraded(struct rig *rig, const char *what)
{
  static struct vc_condition conditions[VC_HEALTH_MAX];
  size_t n = vc_health_list(rig->health, conditions);
  for (size_t i = 0; i < n; i++) {
    if (strcmp(conditions[i].what, what) == 0) {
      return conditions[i].reason;
    }
  }
  return NULL;
}

static void assert_written_once(size_t n_partitions)
{
  for (size_t p = 0; p < n_partitions; p++) {
    const struct world_partition *partition = &world.partitions[p];
    assert_int_equal(partition->stored, partition->n_records);
    for (int64_t i = 0; i < partition->n_records; i++) {
      assert_int_equal(partition->n_written[i], !world_is_tombstone(i));
    }
  }
}

static void test_full_batches_are_written_at_once(void **state)
{
  struct rig *rig = begin_assigned(7, 3);
  uint64_t begun = world.now_ns;
  while (world.n_batches < 2) {
    turn(rig);
  }
  assert_int_equal(world.now_ns, begun);
  assert_int_equal(world.n_last_rows, 10);
  turn_for(rig, 1000);
  assert_written_once(3);
  assert_int_equal(world.n_batches, 3);
  assert_int_equal(count(rig, "store.stored_total"), 21);
  struct vc_distribution lag;
  assert_int_equal(vc_metrics_distribution(rig->metrics, "sink.lag_ms", &lag), 0);
  assert_int_equal(lag.count, 21);
  assert_true(lag.min >= 40 && lag.max <= 340);
  end(rig);
}

static void test_a_part_of_a_batch_waits_for_the_interval(void **state)
{
  struct rig *rig = begin_assigned(3, 1);
  turn_for(rig, 250);
  assert_int_equal(world.n_batches, 0);
  turn_for(rig, 100);
  assert_int_equal(world.n_batches, 1);
  assert_int_equal(world.n_last_rows, 3);
  assert_written_once(1);
  end(rig);
}

static void test_a_record_without_a_value_moves_the_position(void **state)
{
  struct rig *rig = begin(12);
  create(rig);
  world.partitions[0].stored = 11;
  world_assign(1);
  turn_for(rig, 500);
  assert_int_equal(world.partitions[0].stored, 12);
  assert_int_equal(world.n_last_rows, 0);
  assert_int_equal(count(rig, "sink.tombstones_total"), 1);
  end(rig);
}

static void test_consuming_begins_at_the_tables_positions(void **state)
{
  struct rig *rig = begin(40);
  create(rig);
  world_write(&world.partitions[0], 25);
  world_assign(1);
  turn_for(rig, 1000);
  assert_written_once(1);
  end(rig);
}

static void test_what_is_no_record_goes_to_the_dead_letters(void **state)
{
  struct rig *rig = begin_assigned(9, 1);
  turn_for(rig, 500);
  assert_written_once(1);
  assert_int_equal(world.n_letters, 1);
  assert_string_equal(world.letter.topic, "transcripts");
  assert_int_equal(world.letter.offset, 7);
  assert_string_equal(world.letter.reason, "it is no record");
  assert_int_equal(count(rig, "sink.dead_letters_total"), 1);
  assert_int_equal(count(rig, "store.poisoned_total"), 1);
  end(rig);
}

static void test_without_the_dead_letters_topic_nothing_is_written(void **state)
{
  struct rig *rig = begin_assigned(9, 1);
  world.letters_are_away = 1;
  turn_for(rig, 4000);
  int64_t id = world.letter_id;
  turn_for(rig, 20000);
  assert_true(world.n_letter_tries > 2);
  assert_int_equal(world.letter_id, id);
  assert_int_equal(world.partitions[0].stored, -1);
  assert_non_null(strstr(degraded(rig, "kafka"), "no broker"));
  assert_null(degraded(rig, "database"));
  world.letters_are_away = 0;
  turn_for(rig, 6000);
  assert_written_once(1);
  assert_int_equal(world.n_letters, 1);
  assert_null(degraded(rig, "kafka"));
  end(rig);
}

static void test_a_dead_letter_that_is_never_taken_is_counted(void **state)
{
  struct rig *rig = begin_assigned(9, 1);
  world.hopeless = "too large";
  turn_for(rig, 500);
  assert_written_once(1);
  assert_int_equal(count(rig, "sink.dead_letters_refused_total"), 1);
  assert_int_equal(count(rig, "sink.dead_letters_total"), 0);
  end(rig);
}

static void test_the_database_is_away_and_comes_back(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn_for(rig, 500);
  world.is_away = 1;
  world.partitions[0].n_records = 30;
  turn_for(rig, 60000);
  assert_true(world.is_paused);
  assert_string_equal(degraded(rig, "database"), "no database");
  uint64_t n_tries = count(rig, "sink.retries_total");
  // At most 5 s apart, half of that at least.
  assert_in_range(n_tries, 12, 30);
  assert_int_equal(world.partitions[0].stored, 5);
  world.is_away = 0;
  turn_for(rig, 6000);
  assert_written_once(1);
  assert_false(world.is_paused);
  assert_null(degraded(rig, "database"));
  end(rig);
}

static void test_the_database_is_away_from_the_start(void **state)
{
  struct rig *rig = begin(5);
  create(rig);
  world.is_away = 1;
  world_assign(1);
  turn_for(rig, 3000);
  assert_string_equal(degraded(rig, "database"), "no database");
  world.is_away = 0;
  turn_for(rig, 6000);
  assert_written_once(1);
  assert_null(degraded(rig, "database"));
  end(rig);
}

static void test_an_answer_that_did_not_come_doubles_nothing(void **state)
{
  struct rig *rig = begin_assigned(30, 1);
  world.n_lost_answers = 1;
  turn_for(rig, 3000);
  assert_written_once(1);
  assert_int_equal(count(rig, "sink.fenced_total"), 0);
  assert_int_equal(count(rig, "sink.rewound_total"), 0);
  end(rig);
}

static void test_another_sink_has_moved_the_position(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn_for(rig, 100);
  world_write(&world.partitions[0], 3);
  turn_for(rig, 1000);
  assert_written_once(1);
  assert_int_equal(count(rig, "sink.fenced_total"), 1);
  assert_int_equal(count(rig, "sink.rewound_total"), 5);
  end(rig);
}

// The batch is full and stays: nothing more is taken until it is written.
static void test_a_position_that_is_moved_and_moved_back(void **state)
{
  struct rig *rig = begin_assigned(30, 1);
  world.n_mistaken = 3;
  turn_for(rig, 1000);
  assert_int_equal(world.n_mistaken, 0);
  assert_written_once(1);
  assert_int_equal(count(rig, "sink.fenced_total"), 0);
  assert_false(world.is_paused);
  end(rig);
}

static void test_another_sink_has_written_while_the_database_was_away(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn_for(rig, 100);
  world.is_away = 1;
  turn_for(rig, 1000);
  world_write(&world.partitions[0], 3);
  world.is_away = 0;
  turn_for(rig, 6000);
  assert_written_once(1);
  end(rig);
}

// It is one of a while ago: what it lacks is of a partition of which nothing comes.
static void play_back(void)
{
  struct world_partition *partition = &world.partitions[1];
  partition->stored = 2;
  memset(&partition->n_written[2], 0, sizeof partition->n_written[0] * 3);
  world.partitions[0].n_records = 20;
}

static void test_a_database_that_was_away_is_of_a_while_ago(void **state)
{
  struct rig *rig = begin_assigned(5, 2);
  turn_for(rig, 500);
  world.is_away = 1;
  play_back();
  turn_for(rig, 1000);
  world.is_away = 0;
  turn_for(rig, 6000);
  assert_written_once(2);
  end(rig);
}

static void test_another_connection_finds_a_while_ago(void **state)
{
  struct rig *rig = begin_assigned(5, 2);
  turn_for(rig, 500);
  play_back();
  world.n_reconnects = 1;
  turn_for(rig, 6000);
  assert_written_once(2);
  assert_int_equal(count(rig, "sink.fenced_total"), 1);
  world.n_reconnects = 2;
  world.partitions[0].n_records = 30;
  turn_for(rig, 1000);
  assert_written_once(2);
  assert_int_equal(count(rig, "sink.fenced_total"), 1);
  end(rig);
}

static void test_the_positions_cannot_be_read_again_at_once(void **state)
{
  struct rig *rig = begin_assigned(30, 1);
  world.n_lost_answers = 1;
  while (world.n_batches == 0) {
    turn(rig);
  }
  world.is_away = 1;
  turn_for(rig, 5000);
  world.is_away = 0;
  turn_for(rig, 8000);
  assert_written_once(1);
  end(rig);
}

static void test_rows_of_partitions_that_are_taken_are_let_go_of(void **state)
{
  struct rig *rig = begin_assigned(3, 3);
  turn_for(rig, 100);
  world_assign(2);
  turn_for(rig, 1000);
  assert_int_equal(world.partitions[2].stored, -1);
  assert_written_once(2);
  assert_int_equal(count(rig, "sink.rewound_total"), 9);
  end(rig);
}

static void test_positions_of_another_cluster_end_it(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  world.other_cluster = "c0";
  int status = 0;
  for (int i = 0; i < 10 && status == 0; i++) {
    status = sink_turn(rig->sink, &rig->error);
  }
  assert_int_equal(status, -1);
  assert_non_null(strstr(rig->error.text, "c0"));
  assert_non_null(strstr(rig->error.text, "c1"));
  assert_non_null(strstr(rig->error.text, "--reset-offsets"));
  end(rig);
}

static void test_a_consumer_that_cannot_go_on_ends_it(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  world.cannot = "topic t partition 0: offset 7 is gone";
  assert_int_equal(sink_turn(rig->sink, &rig->error), -1);
  assert_non_null(strstr(rig->error.text, "topic t partition 0: offset 7 is gone"));
  assert_non_null(strstr(rig->error.text, "--reset-offsets"));
  end(rig);
}

static void test_positions_are_forgotten_once(void **state)
{
  struct rig *rig = begin(20);
  rig->options.reset_offsets = 1;
  create(rig);
  world.partitions[0].stored = 15;
  world_assign(1);
  turn_for(rig, 500);
  world.is_away = 1;
  world.partitions[0].n_records = 25;
  turn_for(rig, 1000);
  world.is_away = 0;
  turn_for(rig, 6000);
  assert_int_equal(world.n_resets, 1);
  assert_true(world.n_opened > 1);
  assert_written_once(1);
  end(rig);
}

static void test_nothing_begins_before_the_cluster_is_known(void **state)
{
  struct rig *rig = begin(5);
  create(rig);
  world.is_cluster_unknown = 1;
  world.trouble = "no broker";
  world_assign(1);
  turn_for(rig, 1000);
  assert_int_equal(world.n_opened, 0);
  assert_string_equal(degraded(rig, "kafka"), "no broker");
  world.is_cluster_unknown = 0;
  world.trouble = NULL;
  turn_for(rig, 1000);
  assert_written_once(1);
  assert_null(degraded(rig, "kafka"));
  end(rig);
}

static void test_the_end_writes_what_is_held(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn_for(rig, 100);
  assert_int_equal(world.n_batches, 0);
  world.partitions[0].n_records = 9;
  assert_int_equal(sink_finish(rig->sink), 0);
  assert_int_equal(world.partitions[0].stored, 5);
  assert_int_equal(world.n_batches, 1);
  assert_int_equal(world.n_closed, 1);
  end(rig);
  assert_int_equal(world.n_closed, 1);
}

static void test_the_end_waits_only_so_long(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn_for(rig, 100);
  world.is_away = 1;
  uint64_t begun = world.now_ns;
  assert_int_equal(sink_finish(rig->sink), 5);
  assert_in_range((world.now_ns - begun) / VC_NS_PER_MS, SINK_FINISH_MS, SINK_FINISH_MS + 200);
  end(rig);
}

static void test_old_sessions_go_in_portions(void **state)
{
  struct rig *rig = begin(5);
  rig->options.store.retention_days = 30;
  create(rig);
  world.n_to_expire = 150;
  world_assign(1);
  turn_for(rig, 500);
  assert_int_equal(world.n_expired_calls, 1);
  turn_for(rig, 2000);
  assert_int_equal(world.n_expired_calls, 2);
  assert_int_equal(count(rig, "sink.expired_total"), 150);
  int64_t days_ms = INT64_C(30) * 24 * 3600 * 1000;
  assert_in_range(vc_clock_unix_ms(&world_clock) - world.expire_before_ms, days_ms, days_ms + 3000);
  turn_for(rig, 50000);
  assert_int_equal(world.n_expired_calls, 2);
  turn_for(rig, 15000);
  assert_int_equal(world.n_expired_calls, 3);
  end(rig);
}

static void test_a_thread_that_hangs_is_seen(void **state)
{
  struct rig *rig = begin_assigned(5, 1);
  turn(rig);
  assert_false(sink_is_stuck(rig->sink, 5000));
  world.now_ns += 6 * VC_NS_PER_S;
  assert_true(sink_is_stuck(rig->sink, 5000));
  turn(rig);
  assert_false(sink_is_stuck(rig->sink, 5000));
  end(rig);
}

// Whatever happens in whatever order: each record once, where no other sink has written it.
static void happen(unsigned *seed)
{
  struct world_partition *partition = &world.partitions[(size_t)rand_r(seed) % WORLD_PARTITIONS];
  switch (rand_r(seed) % 40) {
  case 0:
    world.is_away = 1;
    break;
  case 1:
    world.n_lost_answers = 1;
    break;
  case 2:
    world.letters_are_away = 1;
    break;
  case 3:
    world_assign((size_t)rand_r(seed) % (WORLD_PARTITIONS + 1));
    break;
  case 4:
    if (partition->stored + 7 < partition->n_records) {
      world_write(partition, partition->stored + 7);
    }
    break;
  case 5:
  case 6:
    world.is_away = world.letters_are_away = 0;
    break;
  default:
    break;
  }
}

static void test_each_once_whatever_happens(void **state)
{
  for (unsigned run = 1; run <= 100; run++) {
    unsigned seed = run;
    struct rig *rig = begin_assigned(200, WORLD_PARTITIONS);
    for (int i = 0; i < 2000; i++) {
      happen(&seed);
      turn(rig);
    }
    world.is_away = world.letters_are_away = 0;
    world_assign(WORLD_PARTITIONS);
    turn_for(rig, 60000);
    assert_written_once(WORLD_PARTITIONS);
    end(rig);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_full_batches_are_written_at_once),
      cmocka_unit_test(test_a_part_of_a_batch_waits_for_the_interval),
      cmocka_unit_test(test_a_record_without_a_value_moves_the_position),
      cmocka_unit_test(test_consuming_begins_at_the_tables_positions),
      cmocka_unit_test(test_what_is_no_record_goes_to_the_dead_letters),
      cmocka_unit_test(test_without_the_dead_letters_topic_nothing_is_written),
      cmocka_unit_test(test_a_dead_letter_that_is_never_taken_is_counted),
      cmocka_unit_test(test_the_database_is_away_and_comes_back),
      cmocka_unit_test(test_the_database_is_away_from_the_start),
      cmocka_unit_test(test_an_answer_that_did_not_come_doubles_nothing),
      cmocka_unit_test(test_another_sink_has_moved_the_position),
      cmocka_unit_test(test_a_position_that_is_moved_and_moved_back),
      cmocka_unit_test(test_another_sink_has_written_while_the_database_was_away),
      cmocka_unit_test(test_a_database_that_was_away_is_of_a_while_ago),
      cmocka_unit_test(test_another_connection_finds_a_while_ago),
      cmocka_unit_test(test_the_positions_cannot_be_read_again_at_once),
      cmocka_unit_test(test_rows_of_partitions_that_are_taken_are_let_go_of),
      cmocka_unit_test(test_positions_of_another_cluster_end_it),
      cmocka_unit_test(test_a_consumer_that_cannot_go_on_ends_it),
      cmocka_unit_test(test_positions_are_forgotten_once),
      cmocka_unit_test(test_nothing_begins_before_the_cluster_is_known),
      cmocka_unit_test(test_the_end_writes_what_is_held),
      cmocka_unit_test(test_the_end_waits_only_so_long),
      cmocka_unit_test(test_old_sessions_go_in_portions),
      cmocka_unit_test(test_a_thread_that_hangs_is_seen),
      cmocka_unit_test(test_each_once_whatever_happens),
  };
  return cmocka_run_group_tests_name("main/sink", tests, NULL, NULL);
}
