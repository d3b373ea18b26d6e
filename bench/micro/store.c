// How many finals a second a database takes: in batches through the store, and beside it row by
// row, each in a transaction of its own and 1000 in one. Each way begins with the record's JSON.
// Prints for each the median, least and most of RUNS runs in turn, and what of it is JSON.
//
//   store sqlite:PATH | postgresql://…      a database of its own: what is in it is deleted
#include <verbacast/base/clock.h>
#include <verbacast/store.h>
#include <verbacast/wire/json.h>

#include <libpq-fe.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 7
#define N_ROWS 4000
#define N_WORDS 8
#define EPOCH INT64_C(1790000000000)
#define ONE_TRANSACTION 1000
#define BATCH_MAX 1000
#define INSERT                                                                                     \
  "INSERT INTO transcripts (session_id, utterance_id, seq, text, language, start_s, end_s, words)" \
  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"

static char *values[N_ROWS];
static const char *url;

static void die(const char *what)
{
  fprintf(stderr, "store: %s\n", what);
  exit(1);
}

static char *print_final(uint64_t seq)
{
  static const char *const said[N_WORDS] = {"the",   "quick", "brown", "fox",
                                            "jumps", "over",  "lazy",  "dogs"};
  struct vc_word words[N_WORDS];
  char id[32];
  for (int i = 0; i < N_WORDS; i++) {
    words[i] = (struct vc_word){said[i], i * 0.3, i * 0.3 + 0.25, 0.9};
  }
  snprintf(id, sizeof id, "1-0-%08d", (int)seq);
  const struct vc_utterance utterance = {.id = id,
                                         .text = "The quick brown fox jumps over lazy dogs.",
                                         .language = "en",
                                         .start_s = 0,
                                         .end_s = 2.4,
                                         .confidence = 0.9,
                                         .is_final = 1,
                                         .words = words,
                                         .n_words = N_WORDS};
  struct vc_text text = {0};
  vc_record_print(&text, &(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                                    .session = "bench",
                                                    .epoch = EPOCH,
                                                    .node = "bench",
                                                    .started_at_ms = EPOCH,
                                                    .seq = seq,
                                                    .utterance_id = id,
                                                    .utterance = &utterance,
                                                    .received_at_us = EPOCH * 1000});
  if (text.has_failed) {
    die("no memory");
  }
  return text.at;
}

// --- in batches

static void write_batches(size_t size)
{
  static struct vc_store_row rows[BATCH_MAX];
  struct vc_store *store;
  struct vc_error error;
  if (vc_store_open(&store, url, &error) != 0) {
    die(error.text);
  }
  for (size_t at = 0; at < N_ROWS; at += size) {
    for (size_t i = 0; i < size; i++) {
      rows[i] = (struct vc_store_row){.value = values[at + i], .size = strlen(values[at + i])};
    }
    const struct vc_store_position position = {"t", 0, at == 0 ? -1 : (int64_t)at,
                                               (int64_t)(at + size)};
    if (vc_store_write_batch(store,
                             &(struct vc_store_batch){.rows = rows,
                                                      .n_rows = size,
                                                      .cluster = "bench",
                                                      .group = "bench",
                                                      .positions = &position,
                                                      .n_positions = 1},
                             &error) != 0 ||
        rows[0].outcome != VC_STORE_STORED) {
      die(error.text);
    }
  }
  vc_store_close(&store);
}

// --- row by row

struct plain {
  PGconn *postgres; // one of them
  sqlite3 *sqlite;
  sqlite3_stmt *insert;
};

static void run_plain(struct plain *plain, const char *sql)
{
  if (plain->postgres == NULL) {
    if (sqlite3_exec(plain->sqlite, sql, NULL, NULL, NULL) != SQLITE_OK) {
      die(sqlite3_errmsg(plain->sqlite));
    }
    return;
  }
  PGresult *result = PQexec(plain->postgres, sql);
  ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    die(PQerrorMessage(plain->postgres));
  }
  PQclear(result);
}

static void open_plain(struct plain *plain)
{
  *plain = (struct plain){0};
  if (strncmp(url, "sqlite:", 7) == 0) {
    if (sqlite3_open(url + 7, &plain->sqlite) != SQLITE_OK) {
      die(url);
    }
    run_plain(plain, "PRAGMA synchronous = FULL");
    if (sqlite3_prepare_v2(plain->sqlite, INSERT, -1, &plain->insert, NULL) != SQLITE_OK) {
      die(sqlite3_errmsg(plain->sqlite));
    }
    return;
  }
  plain->postgres = PQconnectdb(url);
  PGresult *result = PQprepare(plain->postgres, "insert", INSERT, 0, NULL);
  if (PQresultStatus(result) != PGRES_COMMAND_OK) {
    die(PQerrorMessage(plain->postgres));
  }
  PQclear(result);
}

static void close_plain(struct plain *plain)
{
  sqlite3_finalize(plain->insert);
  sqlite3_close(plain->sqlite);
  PQfinish(plain->postgres);
}

static void insert_row(struct plain *plain, const char *const texts[8])
{
  if (plain->postgres == NULL) {
    for (int i = 0; i < 8; i++) {
      sqlite3_bind_text(plain->insert, i + 1, texts[i], -1, SQLITE_STATIC);
    }
    if (sqlite3_step(plain->insert) != SQLITE_DONE) {
      die(sqlite3_errmsg(plain->sqlite));
    }
    sqlite3_reset(plain->insert);
    return;
  }
  PGresult *result = PQexecPrepared(plain->postgres, "insert", 8, texts, NULL, NULL, 0);
  if (PQresultStatus(result) != PGRES_COMMAND_OK) {
    die(PQerrorMessage(plain->postgres));
  }
  PQclear(result);
}

static void insert_value(struct plain *plain, const char *value)
{
  struct vc_record_parsed record;
  const char *why;
  char seq[32], start[32], end[32];
  if (vc_record_parse(value, strlen(value), &record, &why) != 0) {
    die(why);
  }
  const struct vc_record_fields *fields = &record.fields;
  char *words = vc_json_print(fields->words);
  snprintf(seq, sizeof seq, "%d", (int)fields->seq);
  snprintf(start, sizeof start, "%.3f", fields->start_s);
  snprintf(end, sizeof end, "%.3f", fields->end_s);
  const char *const texts[8] = {
      "1", fields->utterance_id, seq, fields->text, fields->language, start, end, words};
  insert_row(plain, texts);
  free(words);
  vc_record_parsed_fini(&record);
}

static void write_rows(size_t in_one)
{
  struct plain plain;
  open_plain(&plain);
  run_plain(&plain, "INSERT INTO sessions (id, slug, epoch) VALUES (1, 'bench', 1)");
  for (size_t i = 0; i < N_ROWS; i++) {
    if (in_one > 1 && i % in_one == 0) {
      run_plain(&plain, "BEGIN");
    }
    insert_value(&plain, values[i]);
    if (in_one > 1 && (i + 1) % in_one == 0) {
      run_plain(&plain, "COMMIT");
    }
  }
  close_plain(&plain);
}

// Only what is done with the JSON.
static void only_parse(size_t unused)
{
  for (size_t i = 0; i < N_ROWS; i++) {
    struct vc_record_parsed record;
    const char *why;
    if (vc_record_parse(values[i], strlen(values[i]), &record, &why) != 0) {
      die(why);
    }
    free(vc_json_print(record.fields.words));
    vc_record_parsed_fini(&record);
  }
}

// --- all ways in turn

static const struct way {
  const char *name;
  void (*run)(size_t size);
  size_t size;
} ways[] = {
    {"row by row, each committed", write_rows, 1},
    {"row by row, 1000 in a transaction", write_rows, ONE_TRANSACTION},
    {"the store, batches of 100", write_batches, 100},
    {"the store, batches of 200", write_batches, 200},
    {"the store, batches of 1000", write_batches, 1000},
    {"nothing but the JSON", only_parse, 0},
};
#define N_WAYS (sizeof ways / sizeof *ways)

static void empty(void)
{
  struct plain plain;
  open_plain(&plain);
  run_plain(&plain, "DELETE FROM transcripts; DELETE FROM sessions; DELETE FROM offsets");
  run_plain(&plain, plain.postgres != NULL ? "VACUUM transcripts" : "VACUUM");
  close_plain(&plain);
}

static int compare(const void *a, const void *b)
{
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static void make_tables(void)
{
  struct vc_store *store;
  struct vc_error error;
  if (vc_store_open(&store, url, &error) != 0) {
    die(error.text);
  }
  vc_store_close(&store);
}

int main(int argc, char **argv)
{
  static double rates[N_WAYS][RUNS];
  if (argc != 2) {
    die("one argument: the URL of a database of its own, sqlite:PATH or postgresql://…");
  }
  url = argv[1];
  make_tables();
  for (size_t i = 0; i < N_ROWS; i++) {
    values[i] = print_final(i + 1);
  }
  for (int run = 0; run < RUNS; run++) {
    for (size_t w = 0; w < N_WAYS; w++) {
      empty();
      uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
      ways[w].run(ways[w].size);
      double took_s = (double)(vc_clock_now_ns(&vc_clock_system) - begin_ns) / VC_NS_PER_S;
      rates[w][run] = N_ROWS / took_s;
    }
  }
  printf(
      "| way | rows/s, median | least | most | to the first |\n| --- | --- | --- | --- | --- |\n");
  for (size_t w = 0; w < N_WAYS; w++) {
    qsort(rates[w], RUNS, sizeof **rates, compare);
    printf("| %s | %.0f | %.0f | %.0f | %.1f |\n", ways[w].name, rates[w][RUNS / 2], rates[w][0],
           rates[w][RUNS - 1], rates[w][RUNS / 2] / rates[0][RUNS / 2]);
  }
  return 0;
}
