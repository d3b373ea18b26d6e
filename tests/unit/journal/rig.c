#include "rig.h"

#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

void rig_init(struct rig *rig)
{
  *rig = (struct rig){.options = {.journal_commit_ms = 1, .journal_max_bytes = 1 << 30},
                      .sink_most = 100};
  rig->clock = &vc_clock_system;
  folder_make(&rig->folder);
  snprintf(rig->path, sizeof rig->path, "%s", folder_file(&rig->folder, "journal.db"));
  rig->options.journal_path = rig->path;
  pthread_mutex_init(&rig->mutex, NULL);
  pthread_cond_init(&rig->changed, NULL);
}

void rig_fini(struct rig *rig)
{
  if (rig->journal != NULL) {
    rig_stop(rig, 0);
  }
  for (size_t i = 0; i < rig->n_kept; i++) {
    free(rig->kept[i]);
  }
  free(rig->kept);
  pthread_mutex_destroy(&rig->mutex);
  pthread_cond_destroy(&rig->changed);
  folder_remove(&rig->folder);
  assert_int_equal(rig->n_unnamed, 0);
}

// A row says whose it is, even where its value cannot be read.
static int is_named(const struct vc_journal_row *row)
{
  char name[256];
  int n = snprintf(name, sizeof name, "\"session\":\"%s\",\"epoch\":%lld", row->key,
                   (long long)row->epoch);
  return memmem(row->value, row->size, name, (size_t)n) != NULL;
}

// Thread: the relay's.
static int keep(void *context, struct vc_journal_row *rows, size_t n_rows, struct vc_error *error)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  while (rig->is_hanging) {
    rig->is_waiting = 1;
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  rig->is_waiting = 0;
  int is_refusing = rig->is_refusing && rig->n_takes == 0;
  rig->n_takes -= rig->n_takes > 0;
  size_t n_bytes = (rig->n_kept + n_rows + 1) * sizeof(char *);
  char **kept = is_refusing ? NULL : realloc(rig->kept, n_bytes);
  rig->n_refused += is_refusing != 0;
  if (kept != NULL) {
    rig->kept = kept;
    for (size_t i = 0; i < n_rows; i++) {
      rig->n_unnamed += !is_named(&rows[i]);
      rig->last_kind = rows[i].kind;
      if (rig->hopeless != NULL &&
          memmem(rows[i].value, rows[i].size, rig->hopeless, strlen(rig->hopeless)) != NULL) {
        rows[i].hopeless = "it is too large";
        continue;
      }
      kept[rig->n_kept++] = strndup(rows[i].value, rows[i].size);
    }
    rig->n_batches++;
    rig->n_empty += n_rows == 0;
  }
  pthread_mutex_unlock(&rig->mutex);
  return kept != NULL ? 0 : vc_error_set(error, "the sink refuses");
}

void rig_create(struct rig *rig)
{
  struct vc_error error = {.text = ""};
  rig->metrics = vc_metrics_create(&vc_clock_system);
  rig->health = vc_health_create(&vc_clock_system);
  int status = vc_journal_create(&rig->journal,
                                 &(struct vc_journal_settings){
                                     .options = &rig->options,
                                     .sink = {.write = keep,
                                              .what = "database",
                                              .gather_ms = 1,
                                              .most = rig->sink_most,
                                              .is_past_disk = rig->is_past_disk,
                                              .erased_by = rig->erased_by,
                                              .idle_ms = rig->idle_ms,
                                              .context = rig},
                                     .clock = rig->clock,
                                     .metrics = rig->metrics,
                                     .health = rig->health,
                                     .pending_max_bytes = rig->pending_max_bytes,
                                 },
                                 &error);
  if (status != 0) {
    fail_msg("%s", error.text);
  }
  rig->putter = vc_putter_create(vc_journal_stage(rig->journal));
  rig->asker = vc_shared_putter_create(vc_journal_stage(rig->journal));
  assert_non_null(rig->putter);
  assert_non_null(rig->asker);
}

void rig_start(struct rig *rig)
{
  struct vc_error error;
  rig_create(rig);
  assert_int_equal(vc_journal_start(rig->journal, &error), 0);
}

size_t rig_stop(struct rig *rig, uint32_t flush_ms)
{
  size_t n = vc_journal_stop(rig->journal, flush_ms);
  vc_shared_putter_destroy(&rig->asker);
  vc_journal_destroy(&rig->journal);
  vc_metrics_destroy(&rig->metrics);
  vc_health_destroy(&rig->health);
  return n;
}

static void set_sink(struct rig *rig, int is_refusing, int is_hanging)
{
  pthread_mutex_lock(&rig->mutex);
  rig->is_refusing = is_refusing;
  rig->is_hanging = is_hanging;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

void rig_hang(struct rig *rig)
{
  set_sink(rig, 0, 1);
}

void rig_refuse(struct rig *rig)
{
  set_sink(rig, 1, 0);
}

void rig_accept(struct rig *rig)
{
  set_sink(rig, 0, 0);
}

void rig_take(struct rig *rig, int n_batches)
{
  pthread_mutex_lock(&rig->mutex);
  rig->n_takes = n_batches;
  pthread_mutex_unlock(&rig->mutex);
}

void rig_pause(void)
{
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

void rig_put(struct rig *rig, enum vc_record_kind kind, const char *slug, int64_t epoch,
             uint64_t seq, char *value)
{
  struct vc_record *record = vc_record_create(kind, slug);
  assert_non_null(record);
  record->epoch = epoch;
  record->seq = seq;
  record->value = vc_buffer_copy(value, strlen(value));
  assert_non_null(record->value);
  free(value);
  while (vc_putter_put(rig->putter, 0, &record->item) != 0) {
    rig_pause();
  }
}

static void text_of(const char *slug, int64_t epoch, uint64_t seq, char *text, size_t size)
{
  snprintf(text, size, "what-%s-said-%lld-%llu.", slug, (long long)epoch, (unsigned long long)seq);
}

void rig_final(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq)
{
  char text[256], id[32];
  text_of(slug, epoch, seq, text, sizeof text);
  snprintf(id, sizeof id, "1-0-%llu", (unsigned long long)seq);
  rig_put(rig, VC_RECORD_FINAL, slug, epoch, seq, record_final(slug, epoch, seq, id, text));
}

void rig_begin(struct rig *rig, const char *slug, int64_t epoch)
{
  rig_put(rig, VC_RECORD_SESSION_STARTED, slug, epoch, 0, record_started(slug, epoch));
}

void rig_end(struct rig *rig, const char *slug, int64_t epoch)
{
  rig_put(rig, VC_RECORD_SESSION_ENDED, slug, epoch, 0,
          record_ended(slug, epoch, "publisher_left"));
}

static struct vc_query *ask(struct rig *rig, enum vc_query_kind kind, const char *slug,
                            int64_t number)
{
  struct vc_query *query = vc_query_create(kind, slug);
  assert_non_null(query);
  vc_query_set_number(query, number);
  assert_int_equal(vc_shared_putter_put(rig->asker, 0, vc_query_item(query)), 0);
  assert_int_equal(vc_query_wait(query, RIG_PATIENCE_MS), 0);
  return query;
}

struct vc_query *rig_unrelayed(struct rig *rig, const char *slug)
{
  return ask(rig, VC_QUERY_UNRELAYED, slug, 0);
}

int rig_erase(struct rig *rig, const char *slug, int64_t epoch)
{
  struct vc_query *query = ask(rig, VC_QUERY_ERASE, slug, epoch);
  int status = vc_query_status(query);
  vc_query_unref(query);
  return status;
}

int rig_log_begin(struct rig *rig)
{
  rig->log_fd = open(folder_file(&rig->folder, "log"), O_CREAT | O_RDWR | O_APPEND, 0600);
  rig->stderr_fd = dup(STDERR_FILENO);
  assert_true(rig->log_fd >= 0 && rig->stderr_fd >= 0);
  assert_int_equal(dup2(rig->log_fd, STDERR_FILENO), STDERR_FILENO);
  return rig->log_fd;
}

const char *rig_log_end(struct rig *rig)
{
  static char text[1 << 20];
  dup2(rig->stderr_fd, STDERR_FILENO);
  close(rig->stderr_fd);
  ssize_t n = pread(rig->log_fd, text, sizeof text - 1, 0);
  close(rig->log_fd);
  assert_in_range(n, 1, sizeof text - 2);
  text[n] = '\0';
  return text;
}

uint64_t rig_metric(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

void rig_wait_metric(struct rig *rig, const char *name, uint64_t value)
{
  for (int i = 0; i < RIG_PATIENCE_MS && rig_metric(rig, name) != value; i++) {
    rig_pause();
  }
  assert_int_equal(rig_metric(rig, name), value);
}

static size_t n_kept(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
  size_t n = rig->n_kept;
  pthread_mutex_unlock(&rig->mutex);
  return n;
}

void rig_wait_kept(struct rig *rig, size_t n)
{
  for (int i = 0; i < RIG_PATIENCE_MS && n_kept(rig) < n; i++) {
    rig_pause();
  }
  assert_int_equal(n_kept(rig), n);
}

static int is_waiting(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
  int waiting = rig->is_waiting;
  pthread_mutex_unlock(&rig->mutex);
  return waiting;
}

void rig_wait_hanging(struct rig *rig)
{
  for (int i = 0; i < RIG_PATIENCE_MS && !is_waiting(rig); i++) {
    rig_pause();
  }
  assert_true(is_waiting(rig));
}

static size_t n_refused(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
  size_t n = rig->n_refused;
  pthread_mutex_unlock(&rig->mutex);
  return n;
}

void rig_wait_refused(struct rig *rig)
{
  size_t before = n_refused(rig);
  for (int i = 0; i < RIG_PATIENCE_MS && n_refused(rig) == before; i++) {
    rig_pause();
  }
  assert_true(n_refused(rig) > before);
}

int rig_is_degraded(struct rig *rig, const char *what, char reason[128])
{
  struct vc_condition now[VC_HEALTH_MAX];
  size_t n = vc_health_list(rig->health, now);
  for (size_t i = 0; i < n; i++) {
    if (strcmp(now[i].what, what) == 0) {
      if (reason != NULL) {
        memcpy(reason, now[i].reason, sizeof now[i].reason);
      }
      return 1;
    }
  }
  return 0;
}

void rig_wait_degraded(struct rig *rig, const char *what, int wanted)
{
  for (int i = 0; i < RIG_PATIENCE_MS && rig_is_degraded(rig, what, NULL) != wanted; i++) {
    rig_pause();
  }
  assert_int_equal(rig_is_degraded(rig, what, NULL), wanted);
}

static int is_of(const struct vc_record_fields *fields, enum vc_record_type type, const char *slug,
                 int64_t epoch)
{
  return fields->type == type && strcmp(fields->session, slug) == 0 && fields->epoch == epoch;
}

size_t rig_n_finals(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq)
{
  size_t n = 0;
  pthread_mutex_lock(&rig->mutex);
  for (size_t i = 0; i < rig->n_kept; i++) {
    struct vc_record_parsed record;
    const char *why;
    assert_int_equal(vc_record_parse(rig->kept[i], strlen(rig->kept[i]), &record, &why), 0);
    if (is_of(&record.fields, VC_RECORD_TYPE_TRANSCRIPT, slug, epoch) && record.fields.seq == seq) {
      char text[256];
      text_of(slug, epoch, seq, text, sizeof text);
      assert_string_equal(record.fields.text, text);
      n++;
    }
    vc_record_parsed_fini(&record);
  }
  pthread_mutex_unlock(&rig->mutex);
  return n;
}

size_t rig_n_ends(struct rig *rig, const char *slug, int64_t epoch, const char *reason)
{
  size_t n = 0;
  pthread_mutex_lock(&rig->mutex);
  for (size_t i = 0; i < rig->n_kept; i++) {
    struct vc_record_parsed record;
    const char *why;
    assert_int_equal(vc_record_parse(rig->kept[i], strlen(rig->kept[i]), &record, &why), 0);
    n += is_of(&record.fields, VC_RECORD_TYPE_SESSION_ENDED, slug, epoch) &&
         strcmp(record.fields.reason, reason) == 0;
    vc_record_parsed_fini(&record);
  }
  pthread_mutex_unlock(&rig->mutex);
  return n;
}
