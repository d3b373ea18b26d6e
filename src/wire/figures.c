#include <verbacast/wire/figures.h>

enum group { DISTRIBUTIONS, COUNTERS, GAUGES };

struct printing {
  struct vc_text *text;
  enum group wanted;
  int n;
};

static void print_distribution(struct vc_text *text, const struct vc_distribution *d)
{
  const struct {
    const char *name;
    double value;
  } rows[] = {{"avg", d->avg}, {"min", d->min}, {"max", d->max},
              {"p50", d->p50}, {"p95", d->p95}, {"p99", d->p99}};
  vc_text_format(text, "{\"count\":%llu,\"count_total\":%llu", (unsigned long long)d->count,
                 (unsigned long long)d->count_total);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    vc_text_format(text, ",\"%s\":", rows[i].name);
    vc_text_json_number(text, rows[i].value, 3);
  }
  vc_text_add(text, "}");
}

static enum group group_of(enum vc_metric_kind kind)
{
  return kind == VC_METRIC_DISTRIBUTION ? DISTRIBUTIONS
         : kind == VC_METRIC_COUNTER    ? COUNTERS
                                        : GAUGES;
}

static void print_value(void *context, const struct vc_metric_value *value)
{
  struct printing *printing = context;
  enum group group = group_of(value->row->kind);
  if (group != printing->wanted) {
    return;
  }
  vc_text_add(printing->text, printing->n++ > 0 ? "," : "");
  vc_text_json_string(printing->text, value->row->name);
  vc_text_add(printing->text, ":");
  if (group == DISTRIBUTIONS) {
    print_distribution(printing->text, &value->distribution);
  } else {
    vc_text_format(printing->text, "%lld", (long long)value->number);
  }
}

static void print_group(struct vc_metrics *metrics, struct vc_text *text, enum group wanted)
{
  struct printing printing = {.text = text, .wanted = wanted};
  vc_metrics_each(metrics, print_value, &printing);
}

void vc_figures_print(struct vc_metrics *metrics, struct vc_text *text)
{
  vc_text_add(text, "\"latency\":{");
  print_group(metrics, text, DISTRIBUTIONS);
  vc_text_add(text, "},\"counters\":{");
  print_group(metrics, text, COUNTERS);
  vc_text_add(text, "},\"gauges\":{");
  print_group(metrics, text, GAUGES);
  vc_text_add(text, "}");
}
