// The node's option groups: for the program and for the documents made from them.
#pragma once

#include "pipeline.h"
#include "program.h"

#define NODE_GROUPS 15

extern const struct vc_option node_drain_rows[];
// `groups` get pointers into the two structs.
void node_option_groups(struct vc_option_group groups[NODE_GROUPS], struct node_options *options,
                        struct vc_program_settings *program);
extern const struct vc_metric *const node_metric_tables[];
extern const size_t n_node_metric_tables;
#define NODE_SUMMARY                                                                               \
  "The live-transcription node: RTMP in, transcripts out by WebSocket and HTTP, finals kept."
