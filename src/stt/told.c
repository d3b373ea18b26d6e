#include "told.h"

#include <math.h>

#define MOMENT_S 1e-4 // is as long as this

void stt_told_add(struct told *told, double from_s, double to_s)
{
  told->parts[told->next].from_s = from_s;
  told->parts[told->next].to_s = to_s;
  told->next = (told->next + 1) % TOLD_MAX;
  told->n += told->n < TOLD_MAX;
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
  double end_s = at_s;
  for (size_t i = 0; i < told->n; i++) {
    if (told->parts[i].from_s <= at_s && at_s < told->parts[i].to_s) {
      end_s = fmax(end_s, told->parts[i].to_s);
    }
  }
  return end_s;
}
