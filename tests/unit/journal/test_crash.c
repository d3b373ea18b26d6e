// A process that journals is killed at some moment, again and again, on the same files; each final
// whose commit it had traced is in the store, once, and each session has its end.
#include "rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)
#define N_LIVES 12
#define FINALS_MAX 100000
#define LOG_MAX_BYTES (8 * 1024 * 1024)

static struct rig rig;
static char url[300];

// Thread: the relay's.
static int write_to_store(void *context, struct vc_journal_row *rows, size_t n_rows,
                          struct vc_error *error)
{
  struct vc_store *store = *(struct vc_store **)context;
  struct vc_store_row *batch = calloc(n_rows, sizeof *batch);
  if (batch == NULL || store == NULL) {
    free(batch);
    return vc_error_set(error, "away");
  }
  for (size_t i = 0; i < n_rows; i++) {
    batch[i] = (struct vc_store_row){.value = rows[i].value, .size = rows[i].size};
  }
  int status = vc_store_write(store, batch, n_rows, error);
  for (size_t i = 0; i < n_rows && status == 0; i++) {
    if (batch[i].outcome == VC_STORE_POISONED || batch[i].outcome == VC_STORE_CONFLICT) {
      fprintf(stderr, "a row came out as %d: %.200s\n", (int)batch[i].outcome, batch[i].value);
      abort();
    }
  }
  free(batch);
  return status;
}

static void start_with_store(struct vc_store **store)
{
  struct vc_error error;
  rig.metrics = vc_metrics_create(&vc_clock_system);
  int status = vc_journal_create(&rig.journal,
                                 &(struct vc_journal_settings){.options = &rig.options,
                                                               .sink = {.write = write_to_store,
                                                                        .what = "database",
                                                                        .gather_ms = 1,
                                                                        .most = 10,
                                                                        .context = store},
                                                               .clock = &vc_clock_system,
                                                               .metrics = rig.metrics},
                                 &error);
  if (status != 0) {
    fail_msg("%s", error.text);
  }
  rig.putter = vc_putter_create(vc_journal_stage(rig.journal));
  assert_int_equal(vc_journal_start(rig.journal, &error), 0);
}

// The process that dies: `crash FOLDER EPOCH STORE-URL-OR-NOTHING`. Its stderr is read for
// promises.
static int journal_until_killed(char **arguments)
{
  static struct vc_store *store;
  struct vc_error error;
  rig.options = (struct vc_journal_options){
      .journal_path = rig.path, .journal_commit_ms = 1, .journal_max_bytes = 1 << 30};
  snprintf(rig.path, sizeof rig.path, "%s/journal.db", arguments[0]);
  int64_t epoch = strtoll(arguments[1], NULL, 10);
  if (arguments[2][0] != '\0' && vc_store_open(&store, arguments[2], &error) != 0) {
    return 1;
  }
  vc_log_level_set(VC_LOG_DEBUG);
  start_with_store(&store);
  rig_begin(&rig, "demo", epoch);
  for (uint64_t seq = 1; seq <= FINALS_MAX; seq++) {
    rig_final(&rig, "demo", epoch, seq);
    if (seq % 8 == 0) {
      rig_pause();
    }
  }
  pause();
  return 1;
}

static pid_t spawn(int64_t epoch, const char *store_url, const char *log)
{
  char number[32];
  snprintf(number, sizeof number, "%lld", (long long)epoch);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    int fd = open(log, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd >= 0 && dup2(fd, STDERR_FILENO) >= 0) {
      execl("/proc/self/exe", "test", "crash", rig.folder.path, number, store_url, (char *)NULL);
    }
    _exit(127);
  }
  return pid;
}

static char *read_log(const char *path)
{
  char *text = malloc(LOG_MAX_BYTES);
  FILE *file = fopen(path, "rb");
  assert_non_null(text);
  size_t n = file != NULL ? fread(text, 1, LOG_MAX_BYTES - 1, file) : 0;
  if (file != NULL) {
    fclose(file);
  }
  text[n] = '\0';
  return text;
}

// Whole lines only. Returns: how many promises; their numbers in `seqs`.
static size_t read_promises(const char *path, uint64_t *seqs)
{
  char *text = read_log(path), *end;
  size_t n = 0;
  for (char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
    *end = '\0';
    const char *seq = strstr(line, " seq=");
    if (strstr(line, "event=journal_committed ") != NULL && seq != NULL && n < FINALS_MAX) {
      seqs[n++] = strtoull(seq + 5, NULL, 10);
    }
  }
  free(text);
  return n;
}

struct found {
  int64_t epoch;
  uint8_t n_times[FINALS_MAX + 1];
};

static void find(void *context, const struct vc_record_fields *fields)
{
  struct found *found = context;
  if (fields->epoch == found->epoch) {
    assert_in_range(fields->seq, 1, FINALS_MAX);
    found->n_times[fields->seq]++;
  }
}

// What the next start of the node does.
static void recover(void)
{
  struct vc_store *store;
  struct vc_error error;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  start_with_store(&store);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(vc_journal_stop(rig.journal, RIG_PATIENCE_MS), 0);
  vc_journal_destroy(&rig.journal);
  vc_metrics_destroy(&rig.metrics);
  vc_store_close(&store);
}

static void check_store(int64_t epoch, const uint64_t *promised, size_t n_promised)
{
  static struct found found;
  struct vc_store *store;
  struct vc_error error;
  found = (struct found){.epoch = epoch};
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  assert_true(vc_store_read(store, "demo", INT32_MAX, find, &found, &error) >= 0);
  vc_store_close(&store);
  for (size_t i = 0; i < n_promised; i++) {
    assert_int_equal(found.n_times[promised[i]], 1);
  }
  // And nothing has holes: what a later commit holds stands behind what an earlier one does.
  uint64_t last = 0;
  for (uint64_t seq = 1; seq <= FINALS_MAX; seq++) {
    assert_true(found.n_times[seq] <= 1);
    assert_true(!found.n_times[seq] || last == seq - 1);
    last = found.n_times[seq] ? seq : last;
  }
}

static void live_and_die(int64_t epoch, size_t least, int has_store)
{
  static uint64_t promised[FINALS_MAX];
  char log[300];
  snprintf(log, sizeof log, "%s", folder_file(&rig.folder, "log"));
  unlink(log); // the last life's promises are none of this one's
  pid_t pid = spawn(epoch, has_store ? url : "", log);
  size_t n = 0;
  for (int i = 0; i < RIG_PATIENCE_MS && n < least; i++) {
    rig_pause();
    n = read_promises(log, promised);
  }
  int status;
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  n = read_promises(log, promised);
  assert_true(n >= least);
  recover();
  check_store(epoch, promised, n);
}

static void test_what_was_promised_is_kept(void **state)
{
  unsigned dice = 4711;
  for (int life = 0; life < N_LIVES; life++) {
    dice = dice * 1103515245 + 12345;
    live_and_die(E1 + life, 1 + (dice >> 16) % 300, life % 3 != 2);
  }
}

static int set_up(void **state)
{
  rig_init(&rig);
  snprintf(url, sizeof url, "sqlite:%s", folder_file(&rig.folder, "store.db"));
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

int main(int argc, char **argv)
{
  if (argc == 5 && strcmp(argv[1], "crash") == 0) {
    return journal_until_killed(argv + 2);
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_what_was_promised_is_kept, set_up, tear_down),
  };
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests_name("journal/crash", tests, NULL, NULL);
}
