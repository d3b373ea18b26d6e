// Runs a fuzz target over its corpus, as a plain test: one TAP row for each file of the folder, and
// one for the empty input. What a fuzzer once found stays found, in every build.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 4096
#define INPUT_MAX (1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_visible(const struct dirent *entry)
{
  return entry->d_name[0] != '.';
}

// The input lies in an allocation of exactly its size, so that a sanitizer sees a read past it.
static int replay_file(const char *folder, const char *name)
{
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  uint8_t *whole = malloc(INPUT_MAX);
  size_t size = file != NULL && whole != NULL ? fread(whole, 1, INPUT_MAX, file) : 0;
  int has_failed = file == NULL || whole == NULL || ferror(file);
  uint8_t *exact = malloc(size > 0 ? size : 1);
  if (!has_failed && exact != NULL) {
    memcpy(exact, whole, size);
    has_failed = LLVMFuzzerTestOneInput(exact, size) != 0;
  }
  if (file != NULL) {
    fclose(file);
  }
  free(whole);
  free(exact);
  return has_failed;
}

int main(int argc, char **argv)
{
  struct dirent **entries = NULL;
  int n = argc == 2 ? scandir(argv[1], &entries, is_visible, alphasort) : -1;
  if (n < 0 || n > NAMES_MAX) {
    fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
    return 2;
  }
  printf("1..%d\n", n + 1);
  int n_failed = LLVMFuzzerTestOneInput((const uint8_t *)"", 0) != 0;
  printf("%s 1 - the empty input\n", n_failed ? "not ok" : "ok");
  for (int i = 0; i < n; i++) {
    int has_failed = replay_file(argv[1], entries[i]->d_name);
    n_failed += has_failed;
    printf("%s %d - %s\n", has_failed ? "not ok" : "ok", i + 2, entries[i]->d_name);
    fflush(stdout);
    free(entries[i]);
  }
  free(entries);
  return n_failed > 0;
}
