#include "told.h"

#include <math.h>
#include <string.h>

#define MOMENT_S 1e-4 // is as long as this

static void take_out(struct told *told, size_t i)
{
  told->n--;
  memmove(&told->parts[i], &told->parts[i + 1], (told->n - i) * sizeof told->parts[0]);
}

void stt_told_add(struct told *told, double from_s, double to_s)
{
  for (size_t i = told->n; i > 0; i--) {
    const struct told_part *part = &told->parts[i - 1];
    if (part->from_s < to_s && from_s < part->to_s) {
      from_s = fmin(from_s, part->from_s);
      to_s = fmax(to_s, part->to_s);
      take_out(told, i - 1);
    }
  }
  if (told->n == TOLD_MAX) {
    take_out(told, 0);
  }
  told->parts[told->n++] = (struct told_part){from_s, to_s};
}

int stt_told_holds(const struct told *told, double from_s, double to_s)
{
  double covered_s = 0;
  to_s = fmax(to_s, from_s + MOMENT_S);
  for (size_t i = 0; i < told->n; i++) {
    covered_s += fmax(0, fmin(to_s, told->parts[i].to_s) - fmax(from_s, told->parts[i].from_s));
  }
  return covered_s > (to_s - from_s) / 2;
}

double stt_told_end(const struct told *told, double at_s)
{
  for (size_t i = 0; i < told->n; i++) {
    if (told->parts[i].from_s <= at_s && at_s < told->parts[i].to_s) {
      return told->parts[i].to_s;
    }
  }
  return at_s;
}
