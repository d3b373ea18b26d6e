// What all programs share: options, the log, signals, the line that says ready.
#pragma once

#include <stdio.h>

#include <verbacast/base/error.h>
#include <verbacast/base/options.h>

struct program_options {
  int log_level;
  int log_format;
};
extern const struct vc_option program_option_rows[];

enum program_exit { PROGRAM_OK = 0, PROGRAM_FAILED = 1, PROGRAM_USAGE = 2 };

// Parses; prints what is to be printed. Returns: -1 go on, -2 go on with --check-config, else an
// exit status.
int program_parse(struct vc_option_set *set, int argc, char **argv);
// Blocks the signals that program_wait takes (before any thread begins), raises the descriptor limit
// and starts the log. Returns 0 or -1.
int program_begin(const struct program_options *options, struct vc_error *error);
// Says an error on stderr, through the log if it runs. Returns: PROGRAM_FAILED.
int program_fail(const char *program, const struct vc_error *error);
// The one line on stdout.
void program_say_ready(const char *addresses);
// Waits for SIGTERM or SIGINT; SIGUSR1 and SIGUSR2 raise and lower the log level, SIGHUP reads the
// secrets again. From then on a second SIGTERM or SIGINT ends the program at once.
void program_wait(struct vc_option_set *set);
// Waits `ms`, as part of a drain.
void program_pause(uint32_t ms);
void program_end(void);

long program_descriptor_limit(void);
uint32_t program_cores(void); // that this process may use
