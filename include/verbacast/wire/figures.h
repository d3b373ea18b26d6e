// Metrics as /metrics shows them in JSON. Needs no deep stack.
#pragma once

#include <verbacast/base/metrics.h>
#include <verbacast/wire/text.h>

// The members of the answer's object: "latency":{…},"counters":{…},"gauges":{…}
void vc_figures_print(struct vc_metrics *metrics, struct vc_text *text);
