// verbacast, the node: options, then the pipeline until a signal.
#include <string.h>

#include "node_options.h"

static int check_config(struct vc_option_set *set, const struct node_options *options)
{
  struct vc_error error;
  if (pipeline_check(options, &error) != 0) {
    fprintf(stderr, "verbacast: %s\n", error.text);
    return PROGRAM_FAILED;
  }
  vc_options_print_effective(set, stdout);
  printf("would serve viewers on %s, operators on %s, publishers on rtmp://%s/live/{session}\n"
         "a drain may take up to %lld ms\n",
         options->control.http_listen, options->control.admin_listen, options->ingest.rtmp_listen,
         (long long)pipeline_stop_ms(options));
  return PROGRAM_OK;
}

static int run(struct vc_option_set *set, const struct node_options *options,
               const struct program_options *program)
{
  struct vc_error error;
  struct pipeline *pipeline;
  char addresses[256];
  if (program_begin(program, &error) != 0 || pipeline_check(options, &error) != 0 ||
      pipeline_start(&pipeline, options, addresses, sizeof addresses, &error) != 0) {
    return program_fail(set->program, &error);
  }
  program_say_ready(addresses);
  program_wait(set);
  pipeline_stop(&pipeline);
  program_end();
  return PROGRAM_OK;
}

int main(int argc, char **argv)
{
  struct node_options options = {.drain_delay_ms = 0};
  struct program_options program = {.log_level = 0};
  struct vc_option_group groups[NODE_GROUPS];
  node_option_groups(groups, &options, &program);
  struct vc_option_set set = {.program = "verbacast",
                              .summary = NODE_SUMMARY,
                              .groups = groups,
                              .n_groups = NODE_GROUPS};
  int status = program_parse(&set, argc, argv);
  if (status == -2) {
    status = check_config(&set, &options);
  } else if (status == -1) {
    status = run(&set, &options, &program);
  }
  vc_options_free(&set);
  return status;
}
