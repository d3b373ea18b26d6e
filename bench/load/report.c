#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#include "bench.h"

#define ROWS_MAX 64
#define COLUMNS_MAX 24
#define ROUNDS_MAX 64
#define NOTES_MAX 16
#define NAME_MAX_SIZE 96
#define LATENCIES_MAX 1000000 // of a row and round

struct figure {
  size_t n;
  double rounds[ROUNDS_MAX];
};

struct report {
  const char *what;
  char rows[ROWS_MAX][NAME_MAX_SIZE], columns[COLUMNS_MAX][NAME_MAX_SIZE];
  enum figure_kind kinds[COLUMNS_MAX];
  size_t n_rows, n_columns, n_notes, n_empty;
  char notes[NOTES_MAX][160];
  struct figure figures[ROWS_MAX][COLUMNS_MAX];
  struct samples latencies[ROWS_MAX];
};

static const struct {
  const char *unit;
  int digits;
} kinds[] = {
    [FIGURE_MS] = {"ms", 3}, [FIGURE_PER_S] = {"1/s", 0}, [FIGURE_PERCENT] = {"%", 2},
    [FIGURE_US] = {"us", 1}, [FIGURE_MIB] = {"MiB", 2},   [FIGURE_COUNT] = {"", 0},
};

struct report *report_create(const char *what)
{
  struct report *report = calloc(1, sizeof *report);
  if (report == NULL) {
    die("out of memory");
  }
  report->what = what;
  return report;
}

void report_destroy(struct report **report)
{
  for (size_t i = 0; i < ROWS_MAX; i++) {
    samples_fini(&(*report)->latencies[i]);
  }
  free(*report);
  *report = NULL;
}

static size_t find_or_add(char names[][NAME_MAX_SIZE], size_t *n, size_t most, const char *name)
{
  for (size_t i = 0; i < *n; i++) {
    if (strcmp(names[i], name) == 0) {
      return i;
    }
  }
  if (*n == most) {
    die("more than %zu rows or columns in a table", most);
  }
  snprintf(names[*n], NAME_MAX_SIZE, "%s", name);
  return (*n)++;
}

void report_add(struct report *report, const char *row, const char *column, enum figure_kind kind,
                double value)
{
  size_t r = find_or_add(report->rows, &report->n_rows, ROWS_MAX, row);
  size_t c = find_or_add(report->columns, &report->n_columns, COLUMNS_MAX, column);
  struct figure *figure = &report->figures[r][c];
  report->kinds[c] = kind;
  if (figure->n < ROUNDS_MAX && !isnan(value)) {
    figure->rounds[figure->n++] = value;
  }
}

void report_add_own(struct report *report, const char *row, const char *column, const char *metrics,
                    const char *name, const char *what)
{
  json_t *root = metrics != NULL ? json_loads(metrics, 0, NULL) : NULL;
  const json_t *ms = json_object_get(json_object_get(json_object_get(root, "latency"), name), what);
  report_add(report, row, column, FIGURE_MS, json_is_number(ms) ? json_number_value(ms) : NAN);
  json_decref(root);
}

void report_add_latency(struct report *report, const char *row, const struct samples *ms)
{
  struct samples *all =
      &report->latencies[find_or_add(report->rows, &report->n_rows, ROWS_MAX, row)];
  report->n_empty += ms->n == 0;
  size_t step = 1 + ms->n / LATENCIES_MAX; // of very many each so manieth
  for (size_t i = 0; i < ms->n; i += step) {
    samples_add(all, ms->at[i]);
  }
}

size_t report_n_empty(const struct report *report)
{
  return report->n_empty;
}

void report_note(struct report *report, const char *note)
{
  if (report->n_notes < NOTES_MAX) {
    snprintf(report->notes[report->n_notes++], sizeof report->notes[0], "%s", note);
  }
}

// Median, least and most of the rounds.
static int spread(const struct figure *figure, double *median, double *least, double *most)
{
  struct samples sorted = {0};
  for (size_t i = 0; i < figure->n; i++) {
    samples_add(&sorted, figure->rounds[i]);
  }
  samples_sort(&sorted);
  size_t n = sorted.n, low = n > 0 ? (n - 1) / 2 : 0; // two lie in the middle of an even number
  *median = n > 0 ? (sorted.at[low] + sorted.at[n / 2]) / 2 : NAN;
  *least = samples_part(&sorted, 0);
  *most = samples_part(&sorted, 1);
  samples_fini(&sorted);
  return figure->n > 0;
}

static void print_figure(const struct figure *figure, int digits)
{
  double median, least, most;
  if (!spread(figure, &median, &least, &most)) {
    printf(" - |");
  } else if (figure->n == 1) {
    printf(" %.*f |", digits, median);
  } else {
    printf(" %.*f (%.*f-%.*f) |", digits, median, digits, least, digits, most);
  }
}

void report_print(const struct report *report)
{
  printf("%s; median (least-most) of the rounds\n\n| |", report->what);
  for (size_t c = 0; c < report->n_columns; c++) {
    printf(" %s%s%s |", report->columns[c], kinds[report->kinds[c]].unit[0] != '\0' ? ", " : "",
           kinds[report->kinds[c]].unit);
  }
  printf("\n|");
  for (size_t c = 0; c <= report->n_columns; c++) {
    printf(" --- |");
  }
  for (size_t r = 0; r < report->n_rows; r++) {
    printf("\n| %s |", report->rows[r]);
    for (size_t c = 0; c < report->n_columns; c++) {
      print_figure(&report->figures[r][c], kinds[report->kinds[c]].digits);
    }
  }
  printf("\n\n");
  for (size_t i = 0; i < report->n_notes; i++) {
    printf("%s\n", report->notes[i]);
  }
}

static json_t *row_json(const struct report *report, size_t r)
{
  json_t *row = json_pack("{s:s}", "name", report->rows[r]);
  for (size_t c = 0; c < report->n_columns; c++) {
    const struct figure *figure = &report->figures[r][c];
    json_t *rounds = json_array();
    double median, least, most;
    for (size_t i = 0; i < figure->n; i++) {
      json_array_append_new(rounds, json_real(figure->rounds[i]));
    }
    if (spread(figure, &median, &least, &most)) {
      json_object_set_new(row, report->columns[c],
                          json_pack("{s:s, s:f, s:f, s:f, s:o}", "unit",
                                    kinds[report->kinds[c]].unit, "median", median, "least", least,
                                    "most", most, "rounds", rounds));
    } else {
      json_decref(rounds);
    }
  }
  return row;
}

void report_write_json(const struct report *report, const char *path)
{
  struct utsname machine;
  json_t *rows = json_array(), *notes = json_array();
  uname(&machine);
  for (size_t r = 0; r < report->n_rows; r++) {
    json_array_append_new(rows, row_json(report, r));
  }
  for (size_t i = 0; i < report->n_notes; i++) {
    json_array_append_new(notes, json_string(report->notes[i]));
  }
  json_t *all = json_pack("{s:s, s:{s:s, s:s, s:I}, s:o, s:o}", "what", report->what, "machine",
                          "system", machine.sysname, "release", machine.release, "cores",
                          (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "rows", rows, "notes", notes);
  if (all == NULL || json_dump_file(all, path, JSON_INDENT(1)) != 0) {
    die("cannot write %s", path);
  }
  json_decref(all);
}

void report_write_plot(struct report *report, const char *path)
{
  struct distribution rows[ROWS_MAX];
  size_t n = 0;
  for (size_t i = 0; i < report->n_rows; i++) {
    if (report->latencies[i].n > 0) {
      samples_sort(&report->latencies[i]);
      rows[n++] = (struct distribution){report->rows[i], report->latencies[i]};
    }
  }
  plot_write(path, report->what, rows, n);
}
