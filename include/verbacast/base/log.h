// The log: one line an event on stderr, logfmt or JSON, that never blocks the caller.
// Lines go into a bounded ring (4096 lines of at most 2 KiB) that a thread of the log's own writes
// out; when the ring is full the line is dropped and counted, and the count is logged when there is
// room again. Values are escaped: a peer's bytes cannot forge a line. No secret and no transcript
// text above debug.
//
//   vc_log(VC_LOG_INFO, VC_EVENT("ingest.publish"), VC_STR("slug", slug), VC_INT("port", port));
#pragma once

#include <stdint.h>

#include <verbacast/base/error.h>

enum vc_log_level { VC_LOG_ERROR, VC_LOG_WARN, VC_LOG_INFO, VC_LOG_DEBUG };

enum vc_log_kind { VC_LOG_END, VC_LOG_EVENT, VC_LOG_STRING, VC_LOG_INTEGER, VC_LOG_REAL };

struct vc_log_field {
  const char *key;
  enum vc_log_kind kind;
  union {
    const char *string;
    int64_t integer;
    double real;
  };
};

#define VC_EVENT(name)                                                                             \
  {                                                                                                \
    .key = "event", .kind = VC_LOG_EVENT, .string = (name)                                         \
  }
#define VC_STR(name, value)                                                                        \
  {                                                                                                \
    .key = (name), .kind = VC_LOG_STRING, .string = (value)                                        \
  }
#define VC_INT(name, value)                                                                        \
  {                                                                                                \
    .key = (name), .kind = VC_LOG_INTEGER, .integer = (int64_t)(value)                             \
  }
#define VC_REAL(name, value)                                                                       \
  {                                                                                                \
    .key = (name), .kind = VC_LOG_REAL, .real = (value)                                            \
  }

// Thread: any. Never blocks. A NULL string is printed as nothing (logfmt `key=`, JSON null).
#define vc_log(level, ...)                                                                         \
  vc_log_write((level), (const struct vc_log_field[]){__VA_ARGS__, {.kind = VC_LOG_END}})
void vc_log_write(enum vc_log_level level, const struct vc_log_field *fields);

struct vc_log_settings {
  int fd;      // where lines go, usually STDERR_FILENO
  int is_json; // 0 logfmt, 1 JSON
  enum vc_log_level level;
};

// Before vc_log_start (and in unit tests, which may never call it) lines are written at once by the
// caller.
int vc_log_start(const struct vc_log_settings *settings, struct vc_error *error);
// Writes what is left, waiting at most 1 s for a reader that has gone to sleep.
void vc_log_stop(void);
void vc_log_level_set(enum vc_log_level level);
enum vc_log_level vc_log_level_get(void);
// Returns: lines dropped since the start.
uint64_t vc_log_dropped(void);

// A storm of equal events becomes one line an interval, with the count of those left out.
// One object a place in the code and thread (not shared).
struct vc_log_limit {
  uint64_t next_ns; // 0 at first
  uint64_t n_left_out;
};
// Returns: 1 when this event should be logged now (then *n_left_out has those swallowed before it).
int vc_log_limit_pass(struct vc_log_limit *limit, uint64_t now_ns, uint64_t interval_ms,
                      uint64_t *n_left_out);
