// Distributions as an SVG: how long (logarithmic) the quickest so many of a hundred took. The axis
// of parts is stretched towards its end, where what matters is.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define WIDTH 960
#define LEFT 70
#define RIGHT 300 // the names
#define TOP 40
#define BOTTOM 50
#define PLOT_HEIGHT 420
#define LINE_HEIGHT 18
#define NINES 4.0 // the axis ends at 99.99
#define STEPS 400

static const char *const colours[] = {"#0b62a4", "#c0392b", "#2e8b57", "#8e44ad",
                                      "#b9770e", "#16a085", "#34495e", "#d35400"};

struct scale {
  double least, most; // ms, powers of ten
};

static double y_of(const struct scale *scale, double ms)
{
  double part = log10(ms / scale->least) / log10(scale->most / scale->least);
  return TOP + PLOT_HEIGHT * (1 - fmin(fmax(part, 0), 1));
}

// `nines`: 1 is 90 of 100, 2 is 99.
static double x_of(double nines)
{
  return LEFT + (WIDTH - LEFT - RIGHT) * nines / NINES;
}

static struct scale find_scale(const struct distribution *rows, size_t n)
{
  struct scale scale = {HUGE_VAL, 0};
  for (size_t i = 0; i < n; i++) {
    double least = samples_part(&rows[i].samples, 0), most = samples_part(&rows[i].samples, 1);
    scale.least = least > 0 && least < scale.least ? least : scale.least;
    scale.most = most > scale.most ? most : scale.most;
  }
  if (scale.least >= scale.most) {
    return (struct scale){0.01, 1000};
  }
  return (struct scale){pow(10, floor(log10(scale.least))), pow(10, ceil(log10(scale.most)))};
}

static void print_text(FILE *out, double x, double y, const char *anchor, const char *text)
{
  fprintf(out, "<text x='%.1f' y='%.1f' text-anchor='%s'>", x, y, anchor);
  for (; *text != '\0'; text++) {
    switch (*text) {
    case '&':
      fputs("&amp;", out);
      break;
    case '<':
      fputs("&lt;", out);
      break;
    default:
      fputc(*text, out);
    }
  }
  fputs("</text>\n", out);
}

static void print_axes(FILE *out, const struct scale *scale)
{
  static const char *const parts[] = {"0", "90", "99", "99.9", "99.99"};
  char text[32];
  for (int nines = 0; nines <= (int)NINES; nines++) {
    fprintf(out, "<line class='grid' x1='%.1f' x2='%.1f' y1='%d' y2='%d'/>\n", x_of(nines),
            x_of(nines), TOP, TOP + PLOT_HEIGHT);
    print_text(out, x_of(nines), TOP + PLOT_HEIGHT + LINE_HEIGHT, "middle", parts[nines]);
  }
  int n_decades = (int)lround(log10(scale->most / scale->least));
  for (int i = 0; i <= n_decades; i++) {
    double ms = scale->least * pow(10, i);
    fprintf(out, "<line class='grid' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>\n", x_of(0),
            x_of(NINES), y_of(scale, ms), y_of(scale, ms));
    snprintf(text, sizeof text, "%g", ms);
    print_text(out, LEFT - 8, y_of(scale, ms) + 4, "end", text);
  }
  print_text(out, x_of(NINES / 2), TOP + PLOT_HEIGHT + 2 * LINE_HEIGHT, "middle", "of 100");
  print_text(out, LEFT - 8, TOP - 12, "end", "ms");
}

static void print_row(FILE *out, const struct scale *scale, const struct distribution *row,
                      size_t number)
{
  const char *colour = colours[number % (sizeof colours / sizeof *colours)];
  // More rows than colours: the second time dashed, then dotted.
  const char *dash = number < 8 ? "none" : number < 16 ? "6 3" : "2 3";
  fprintf(out, "<polyline stroke='%s' stroke-dasharray='%s' points='", colour, dash);
  for (int step = 0; step <= STEPS; step++) {
    double nines = NINES * step / STEPS, part = 1 - pow(10, -nines);
    if ((1 - part) * (double)row->samples.n < 1 && step > 0) {
      break; // there are not as many
    }
    fprintf(out, "%.1f,%.1f ", x_of(nines), y_of(scale, samples_part(&row->samples, part)));
  }
  double y = TOP + LINE_HEIGHT * (double)number;
  fprintf(out,
          "'/>\n<line stroke='%s' stroke-dasharray='%s' x1='%d' x2='%d' y1='%.1f' y2='%.1f'/>\n",
          colour, dash, WIDTH - RIGHT + 15, WIDTH - RIGHT + 40, y, y);
  print_text(out, WIDTH - RIGHT + 46, y + 4, "start", row->name);
}

void plot_write(const char *path, const char *title, const struct distribution *rows, size_t n)
{
  FILE *out = fopen(path, "w");
  int height = TOP + PLOT_HEIGHT + BOTTOM;
  if (out == NULL) {
    die("cannot write %s: %s", path, strerror(errno));
  }
  struct scale scale = find_scale(rows, n);
  height = TOP + LINE_HEIGHT * (int)n > height ? TOP + LINE_HEIGHT * (int)n : height;
  fprintf(out,
          "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d'>\n<style>text{font:12px "
          "sans-serif;fill:#222}line,polyline{fill:none;stroke-width:1.5}.grid{stroke:#ddd;"
          "stroke-width:1}</style>\n<rect width='100%%' height='100%%' fill='#fff'/>\n",
          WIDTH, height);
  print_text(out, LEFT, TOP - 24, "start", title);
  print_axes(out, &scale);
  for (size_t i = 0; i < n; i++) {
    print_row(out, &scale, &rows[i], i);
  }
  fputs("</svg>\n", out);
  if (ferror(out) != 0 || fclose(out) != 0) {
    die("cannot write %s: %s", path, strerror(errno));
  }
}
