// Lines are formatted by the caller into a slot of a ring that a short mutex guards; nobody holds
// that mutex over a system call, so a caller never waits for the terminal, the pipe or the disk.
// The writer takes lines out and writes them by itself.
#include <verbacast/base/log.h>
#include <verbacast/base/thread.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define RING_LINES 4096
#define STOP_PATIENCE_MS 1000
#define PATIENCE_STEP_MS 100

struct text {
  char *at;
  size_t size;
  size_t used;
};

struct line {
  uint16_t size;
  char bytes[LINE_MAX_BYTES];
};

static struct {
  _Atomic int level;
  _Atomic int is_running;
  _Atomic int has_given_up; // a reader that sleeps is not waited for any more
  _Atomic uint64_t n_dropped;
  int is_json;
  int fd;
  pthread_t thread;
  pthread_mutex_t mutex; // guards what follows
  pthread_cond_t filled;
  struct line *lines;
  size_t first, count;
  uint64_t n_dropped_told;
  int is_stopping;
} logger = {
    .level = VC_LOG_INFO,
    .fd = STDERR_FILENO,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .filled = PTHREAD_COND_INITIALIZER,
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static void append(struct text *text, const char *bytes, size_t size)
{
  size_t room = text->size - text->used;
  size_t n = size < room ? size : room;
  memcpy(text->at + text->used, bytes, n);
  text->used += n;
}

__attribute__((format(printf, 2, 3))) static void append_format(struct text *text,
                                                                const char *format, ...)
{
  char scratch[128];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(scratch, sizeof scratch, format, arguments);
  va_end(arguments);
  if (n > 0) {
    append(text, scratch, (size_t)n < sizeof scratch ? (size_t)n : sizeof scratch - 1);
  }
}

// Returns: the length of the well-formed UTF-8 sequence at `s`, 0 when there is none.
static size_t sequence_length(const unsigned char *s)
{
  static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
  if (n <= 1) {
    return n;
  }
  uint32_t code = s[0] & (0xffU >> (n + 1));
  for (size_t i = 1; i < n; i++) {
    if ((s[i] & 0xc0) != 0x80) {
      return 0;
    }
    code = code << 6 | (s[i] & 0x3fU);
  }
  int is_bad = code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000);
  return is_bad ? 0 : n;
}

static void append_quoted(struct text *text, const char *string)
{
  append(text, "\"", 1);
  for (const unsigned char *s = (const unsigned char *)string; *s != '\0';) {
    size_t n = sequence_length(s);
    if (n == 0) {
      append_format(text, "\\u00%02x", *s);
      n = 1;
    } else if (*s == '"' || *s == '\\') {
      append_format(text, "\\%c", *s);
    } else if (*s < 0x20 || *s == 0x7f) {
      append_format(text, "\\u%04x", *s);
    } else {
      append(text, (const char *)s, n);
    }
    s += n;
  }
  append(text, "\"", 1);
}

static int is_plain(const char *string)
{
  if (*string == '\0') {
    return 0;
  }
  for (const unsigned char *s = (const unsigned char *)string; *s != '\0'; s++) {
    if (*s <= ' ' || *s >= 0x7f || *s == '"' || *s == '=' || *s == '\\') {
      return 0;
    }
  }
  return 1;
}

static void append_time(struct text *text)
{
  struct timespec now;
  struct tm parts;
  char scratch[40];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  strftime(scratch, sizeof scratch, "%Y-%m-%dT%H:%M:%S", &parts);
  append_format(text, "%s.%03dZ", scratch, (int)(now.tv_nsec / 1000000));
}

static void append_logfmt(struct text *text, enum vc_log_level level,
                          const struct vc_log_field *fields)
{
  append_format(text, "ts=");
  append_time(text);
  append_format(text, " level=%s", level_names[level]);
  for (const struct vc_log_field *field = fields; field->kind != VC_LOG_END; field++) {
    append_format(text, " %s=", field->key);
    if (field->kind == VC_LOG_INTEGER) {
      append_format(text, "%" PRId64, field->integer);
    } else if (field->kind == VC_LOG_REAL) {
      append_format(text, "%.6g", field->real);
    } else if (field->string == NULL) {
      continue;
    } else if (is_plain(field->string)) {
      append(text, field->string, strlen(field->string));
    } else {
      append_quoted(text, field->string);
    }
  }
}

static void append_json(struct text *text, enum vc_log_level level,
                        const struct vc_log_field *fields)
{
  append_format(text, "{\"ts\":\"");
  append_time(text);
  append_format(text, "\",\"level\":\"%s\"", level_names[level]);
  for (const struct vc_log_field *field = fields; field->kind != VC_LOG_END; field++) {
    append_format(text, ",\"%s\":", field->key);
    if (field->kind == VC_LOG_INTEGER) {
      append_format(text, "%" PRId64, field->integer);
    } else if (field->kind == VC_LOG_REAL && isfinite(field->real)) {
      append_format(text, "%.6g", field->real);
    } else if (field->kind == VC_LOG_REAL || field->string == NULL) {
      append_format(text, "null");
    } else {
      append_quoted(text, field->string);
    }
  }
  append_format(text, "}");
}

// A line that does not fit is told without its values rather than cut in the middle of one.
static size_t format_line(char *bytes, enum vc_log_level level, const struct vc_log_field *fields)
{
  struct text text = {.at = bytes, .size = LINE_MAX_BYTES - 1};
  void (*print)(struct text *, enum vc_log_level, const struct vc_log_field *) =
      logger.is_json ? append_json : append_logfmt;
  print(&text, level, fields);
  if (text.used == text.size) {
    struct vc_log_field too_long[] = {
        fields[0], VC_STR("left_out", "the line is too long"), {.kind = VC_LOG_END}};
    text.used = 0;
    print(&text, level, too_long);
  }
  bytes[text.used] = '\n';
  return text.used + 1;
}

// Asks before it writes, so that it hangs in no system call when a reader has gone to sleep: where
// poll says yes, a pipe has room for a whole line.
static void write_all(int fd, const char *bytes, size_t size)
{
  while (size > 0) {
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int has_given_up = atomic_load_explicit(&logger.has_given_up, memory_order_relaxed);
    int n_ready = poll(&ready, 1, has_given_up ? 0 : PATIENCE_STEP_MS);
    if (n_ready == 0 && has_given_up) {
      return;
    }
    ssize_t n = n_ready > 0 ? write(fd, bytes, size) : 0;
    if (n > 0) {
      bytes += n;
      size -= (size_t)n;
    } else if ((n_ready < 0 || n < 0) && errno != EINTR && errno != EAGAIN) {
      return; // nobody is there to be told
    }
  }
}

void vc_log_write(enum vc_log_level level, const struct vc_log_field *fields)
{
  if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed)) {
    return;
  }
  if (!atomic_load_explicit(&logger.is_running, memory_order_acquire)) {
    char bytes[LINE_MAX_BYTES];
    write_all(logger.fd, bytes, format_line(bytes, level, fields));
    return;
  }
  char bytes[LINE_MAX_BYTES];
  size_t size = format_line(bytes, level, fields);
  pthread_mutex_lock(&logger.mutex);
  if (logger.count == RING_LINES || logger.lines == NULL) {
    atomic_fetch_add_explicit(&logger.n_dropped, 1, memory_order_relaxed);
  } else {
    struct line *line = &logger.lines[(logger.first + logger.count) % RING_LINES];
    memcpy(line->bytes, bytes, size);
    line->size = (uint16_t)size;
    logger.count++;
    pthread_cond_signal(&logger.filled);
  }
  pthread_mutex_unlock(&logger.mutex);
}

// Thread: the log's. Returns 0 when the log stops and nothing is left.
static int take_line(struct line *into)
{
  pthread_mutex_lock(&logger.mutex);
  while (logger.count == 0 && !logger.is_stopping) {
    pthread_cond_wait(&logger.filled, &logger.mutex);
  }
  int is_taken = logger.count > 0;
  if (is_taken) {
    struct line *line = &logger.lines[logger.first];
    into->size = line->size;
    memcpy(into->bytes, line->bytes, line->size);
    logger.first = (logger.first + 1) % RING_LINES;
    logger.count--;
  }
  pthread_mutex_unlock(&logger.mutex);
  return is_taken;
}

static void tell_dropped(struct line *line)
{
  uint64_t dropped = atomic_load_explicit(&logger.n_dropped, memory_order_relaxed);
  if (dropped == logger.n_dropped_told) {
    return;
  }
  struct vc_log_field fields[] = {VC_EVENT("log.dropped"),
                                  VC_INT("lines", dropped - logger.n_dropped_told),
                                  {.kind = VC_LOG_END}};
  logger.n_dropped_told = dropped;
  write_all(logger.fd, line->bytes, format_line(line->bytes, VC_LOG_WARN, fields));
}

static void *write_lines(void *context)
{
  (void)context;
  struct line line;
  while (take_line(&line)) {
    write_all(logger.fd, line.bytes, line.size);
    tell_dropped(&line);
  }
  return NULL;
}

int vc_log_start(const struct vc_log_settings *settings, struct vc_error *error)
{
  logger.lines = calloc(RING_LINES, sizeof *logger.lines);
  if (logger.lines == NULL) {
    return vc_error_set(error, "log: no memory for %d lines", RING_LINES);
  }
  logger.fd = settings->fd;
  logger.is_json = settings->is_json;
  logger.first = logger.count = 0;
  logger.is_stopping = 0;
  atomic_store_explicit(&logger.has_given_up, 0, memory_order_relaxed);
  vc_log_level_set(settings->level);
  int status = vc_thread_start(&logger.thread, "vc-log", 0, write_lines, NULL);
  if (status != 0) {
    free(logger.lines);
    logger.lines = NULL;
    return vc_error_set(error, "log: no thread: %s", strerror(status));
  }
  atomic_store_explicit(&logger.is_running, 1, memory_order_release);
  return 0;
}

// Returns: 1 when the log's thread has ended, else 0.
static int join_within(uint32_t timeout_ms)
{
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += timeout_ms / 1000;
  return pthread_timedjoin_np(logger.thread, NULL, &limit) == 0;
}

void vc_log_stop(void)
{
  if (!atomic_exchange_explicit(&logger.is_running, 0, memory_order_acq_rel)) {
    return;
  }
  pthread_mutex_lock(&logger.mutex);
  logger.is_stopping = 1;
  pthread_cond_signal(&logger.filled);
  pthread_mutex_unlock(&logger.mutex);
  int is_over = join_within(STOP_PATIENCE_MS);
  if (!is_over) {
    atomic_store_explicit(&logger.has_given_up, 1, memory_order_relaxed);
    is_over = join_within(STOP_PATIENCE_MS);
  }
  if (!is_over) {
    pthread_detach(logger.thread); // it hangs in write(), and keeps its ring
    return;
  }
  pthread_mutex_lock(&logger.mutex);
  free(logger.lines);
  logger.lines = NULL;
  logger.count = 0;
  pthread_mutex_unlock(&logger.mutex);
}

void vc_log_level_set(enum vc_log_level level)
{
  atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
}

enum vc_log_level vc_log_level_get(void)
{
  return (enum vc_log_level)atomic_load_explicit(&logger.level, memory_order_relaxed);
}

uint64_t vc_log_dropped(void)
{
  return atomic_load_explicit(&logger.n_dropped, memory_order_relaxed);
}

int vc_log_limit_pass(struct vc_log_limit *limit, uint64_t now_ns, uint64_t interval_ms,
                      uint64_t *n_left_out)
{
  if (now_ns < limit->next_ns) {
    limit->n_left_out++;
    return 0;
  }
  *n_left_out = limit->n_left_out;
  limit->n_left_out = 0;
  limit->next_ns = now_ns + interval_ms * UINT64_C(1000000);
  return 1;
}
