#include <math.h>
#include <stdlib.h>

#include "bench.h"

void samples_add(struct samples *samples, double value)
{
  if (samples->n == samples->capacity) {
    samples->capacity = samples->capacity > 0 ? samples->capacity * 2 : 1024;
    samples->at = grow(samples->at, samples->capacity, sizeof *samples->at);
  }
  samples->at[samples->n++] = value;
}

void samples_fini(struct samples *samples)
{
  free(samples->at);
  *samples = (struct samples){0};
}

static int compare(const void *a, const void *b)
{
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

void samples_sort(struct samples *samples)
{
  if (samples->n > 0) {
    qsort(samples->at, samples->n, sizeof *samples->at, compare);
  }
}

double samples_part(const struct samples *samples, double part)
{
  if (samples->n == 0) {
    return NAN;
  }
  size_t i = (size_t)(part * (double)(samples->n - 1) + 0.5);
  return samples->at[i];
}

double samples_mean(const struct samples *samples)
{
  double sum = 0;
  for (size_t i = 0; i < samples->n; i++) {
    sum += samples->at[i];
  }
  return samples->n > 0 ? sum / (double)samples->n : NAN;
}
