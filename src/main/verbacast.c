// verbacast, the node: options, then the pipeline until a signal.
#include <stdio.h>

#include "node_options.h"

static int check_config(struct vc_option_set *set, const struct node_options *options)
{
  struct vc_error error;
  if (pipeline_check(options, &error) != 0) {
    fprintf(stderr, "verbacast: %s\n", error.text);
    return VC_EXIT_FAILED;
  }
  vc_options_print_effective(set, stdout);
  printf("would serve viewers on %s, operators on %s, publishers on rtmp://%s/live/{session}\n"
         "a drain may take up to %lld ms\n",
         options->control.http_listen, options->control.admin_listen, options->ingest.rtmp_listen,
         (long long)pipeline_stop_ms(options));
  return VC_EXIT_OK;
}

static int run(struct vc_option_set *set, const struct node_options *options,
               const struct vc_program_settings *program)
{
  struct vc_error error;
  struct pipeline *pipeline;
  struct pipeline_addresses bound;
  if (vc_program_start(program, set->program, &error) != 0 ||
      pipeline_check(options, &error) != 0 ||
      pipeline_start(&pipeline, options, &bound, &error) != 0) {
    return vc_program_fail(&error);
  }
  const struct vc_program_address addresses[] = {
      {"http", bound.http}, {"rtmp", bound.rtmp}, {"admin", bound.admin}};
  vc_program_ready(addresses, sizeof addresses / sizeof *addresses);
  vc_program_wait_for_stop(set);
  pipeline_stop(&pipeline);
  vc_program_end(VC_EXIT_OK);
  return VC_EXIT_OK;
}

int main(int argc, char **argv)
{
  struct node_options options = {.drain_delay_ms = 0};
  struct vc_program_settings program = {.log_level = 0};
  struct vc_option_group groups[NODE_GROUPS];
  node_option_groups(groups, &options, &program);
  struct vc_option_set set = {
      .program = "verbacast", .summary = NODE_SUMMARY, .groups = groups, .n_groups = NODE_GROUPS};
  int status = VC_EXIT_OK;
  switch (vc_program_parse(&set, argc, argv, &status)) {
  case VC_PROGRAM_RUN:
    status = run(&set, &options, &program);
    break;
  case VC_PROGRAM_CHECK:
    status = check_config(&set, &options);
    break;
  case VC_PROGRAM_EXIT:
    break;
  }
  vc_options_free(&set);
  return status;
}
