// verbacast-stt: a speech-to-text server for one machine, Gladia Live v2 on the wire.
#include "program.h"

#include <verbacast/base/log.h>
#include <verbacast/base/metrics.h>
#include <verbacast/sttd.h>

#include <stdio.h>

#define DRAIN_MS 10000

struct settings {
  struct vc_program_settings program;
  struct vc_sttd_options sttd;
};

static int check(struct vc_option_set *set, const struct settings *settings)
{
  struct vc_error error;
  vc_options_print_effective(set, stdout);
  if (vc_sttd_check(&settings->sttd, stdout, &error) != 0) {
    fprintf(stderr, "%s: %s\n", set->program, error.text);
    return VC_EXIT_FAILED;
  }
  printf("a drain takes at most %d ms\n", DRAIN_MS);
  return VC_EXIT_OK;
}

static int serve(struct vc_option_set *set, struct vc_sttd *sttd, const struct vc_address *bound)
{
  struct vc_error error;
  if (vc_sttd_start(sttd, &error) != 0) {
    return vc_program_fail(&error);
  }
  const struct vc_program_address address = {"stt", *bound};
  vc_program_ready(&address, 1);
  vc_program_wait_for_stop(set);
  if (vc_sttd_stop(sttd, DRAIN_MS) != 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("program.drain"), VC_STR("why", "not all was heard in time"));
  }
  return VC_EXIT_OK;
}

static int run(struct vc_option_set *set, const struct settings *settings,
               struct vc_metrics *metrics)
{
  struct vc_error error;
  struct vc_address bound;
  struct vc_sttd *sttd = NULL;
  const struct vc_sttd_settings sttd_settings = {
      .options = &settings->sttd,
      .clock = &vc_clock_system,
      .metrics = metrics,
      .descriptors_max = vc_program_descriptor_limit(),
  };
  if (vc_sttd_create(&sttd, &sttd_settings, &bound, &error) != 0) {
    return vc_program_fail(&error);
  }
  int status = serve(set, sttd, &bound);
  vc_sttd_destroy(&sttd);
  return status;
}

static int start_and_run(struct vc_option_set *set, const struct settings *settings)
{
  struct vc_error error;
  if (vc_program_start(&settings->program, set->program, &error) != 0) {
    fprintf(stderr, "%s: %s\n", set->program, error.text);
    return VC_EXIT_FAILED;
  }
  struct vc_metrics *metrics = vc_metrics_create(&vc_clock_system);
  int status = metrics != NULL ? run(set, settings, metrics) : VC_EXIT_FAILED;
  vc_metrics_destroy(&metrics);
  vc_program_end(status);
  return status;
}

int main(int argc, char **argv)
{
  struct settings settings = {0};
  const struct vc_option_group groups[] = {
      {"Speech to text", vc_sttd_option_rows, &settings.sttd},
      {"Log", vc_program_options, &settings.program},
  };
  struct vc_option_set set = {
      .program = "verbacast-stt",
      .summary = VC_STTD_SUMMARY,
      .groups = groups,
      .n_groups = 2,
  };
  int status = VC_EXIT_OK;
  switch (vc_program_parse(&set, argc, argv, &status)) {
  case VC_PROGRAM_RUN:
    status = start_and_run(&set, &settings);
    break;
  case VC_PROGRAM_CHECK:
    status = check(&set, &settings);
    break;
  case VC_PROGRAM_EXIT:
    break;
  }
  vc_options_free(&set);
  return status;
}
