// What all programs do alike: options in, log, signals, descriptors, the ready line.
//
//   static const struct vc_option_group groups[] = {{"Log", vc_program_options,
//   &settings.program}}; int status; switch (vc_program_parse(&set, argc, argv, &status)) { case
//   VC_PROGRAM_EXIT: return status; case VC_PROGRAM_CHECK: … say what would run … case
//   VC_PROGRAM_RUN: break;
//   }
//   vc_program_start(&settings.program, "verbacast", &error); … make the stages …
//   vc_program_ready(addresses, n);
//   while (vc_program_wait(1000) != VC_PROGRAM_STOP) { … }
//   … drain; a second SIGTERM or SIGINT now ends the process at once …
//   vc_program_end();
//
// Thread: main's for all of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/address.h>
#include <verbacast/base/options.h>

#define VC_EXIT_OK 0
#define VC_EXIT_FAILED 1
#define VC_EXIT_USAGE 2

struct vc_program_settings {
  int log_level;  // enum vc_log_level
  int log_format; // 0 logfmt, 1 JSON
};
extern const struct vc_option vc_program_options[]; // offsets of vc_program_settings

enum vc_program_step { VC_PROGRAM_RUN, VC_PROGRAM_CHECK, VC_PROGRAM_EXIT };
// Reads flags and the process's environment; prints help, version or what is wrong.
// Gives: *status, of VC_PROGRAM_EXIT. The caller frees the options (vc_options_free) in any case.
enum vc_program_step vc_program_parse(struct vc_option_set *set, int argc, char **argv,
                                      int *status);

// Before any thread is made: starts the log, keeps SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 for
// vc_program_wait, ignores SIGPIPE, raises the descriptor limit as far as it goes. Logs that it
// starts, and the limit. Returns: 0 or -1.
int vc_program_start(const struct vc_program_settings *settings, const char *program,
                     struct vc_error *error);
// Returns: how many descriptors the process may have.
size_t vc_program_descriptor_limit(void);

// For what has no other name: the host's, and a random number.
void vc_program_make_name(char *name, size_t size);

struct vc_program_address {
  const char *name; // "http"
  struct vc_address address;
};
// The one line on stdout: "ready http=127.0.0.1:3000 rtmp=127.0.0.1:1937".
void vc_program_ready(const struct vc_program_address *addresses, size_t n);

enum vc_program_signal {
  VC_PROGRAM_NONE,   // timeout_ms went by
  VC_PROGRAM_RELOAD, // SIGHUP: read the secrets again
  VC_PROGRAM_STOP,   // SIGTERM, SIGINT: drain. From now on the next of them ends the process (1).
};
// SIGUSR1 and SIGUSR2 raise and lower the log level here.
enum vc_program_signal vc_program_wait(uint32_t timeout_ms);
// Reads the secrets again, and says so in the log.
void vc_program_reload(struct vc_option_set *set);
// Waits for the stop, and reads the secrets again meanwhile.
void vc_program_wait_for_stop(struct vc_option_set *set);

// Logs that the program ends, and writes out the log.
void vc_program_end(int status);
// For what went wrong at the start: one error line in the log and in words. Returns:
// VC_EXIT_FAILED.
int vc_program_fail(const struct vc_error *error);
