#include <verbacast/base/cores.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORES_MAX 65536

uint32_t vc_cores_parse_quota(const char *text)
{
  char *end;
  unsigned long long quota = strtoull(text, &end, 10); // 0: "max", or no number
  unsigned long long period = strtoull(end, NULL, 10);
  if (quota == 0 || period == 0) {
    return 0;
  }
  unsigned long long n = quota / period;
  return n < 1 ? 1 : n > CORES_MAX ? CORES_MAX : (uint32_t)n;
}

// The first line of a file that begins so. Returns: 0, or -1: there is none.
static int read_line(const char *path, const char *beginning, char *line, size_t size)
{
  FILE *file = fopen(path, "re");
  int is_found = 0;
  while (file != NULL && !is_found && fgets(line, (int)size, file) != NULL) {
    is_found = strncmp(line, beginning, strlen(beginning)) == 0;
  }
  if (file != NULL) {
    fclose(file);
  }
  return is_found ? 0 : -1;
}

// Of the process's own group, in the unified hierarchy.
static uint32_t find_quota(void)
{
  char group[512], path[640], limit[64];
  if (read_line("/proc/self/cgroup", "0::", group, sizeof group) != 0) {
    return 0;
  }
  group[strcspn(group, "\n")] = '\0';
  snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group + strlen("0::"));
  return read_line(path, "", limit, sizeof limit) == 0 ? vc_cores_parse_quota(limit) : 0;
}

uint32_t vc_cores(void)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  int counted = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  uint32_t n = counted > 0 ? (uint32_t)counted : 1;
  uint32_t quota = find_quota();
  return quota > 0 && quota < n ? quota : n;
}
