#include "store_rig.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define FILE_MAX_BYTES (256 * 1024 * 1024)

void folder_make(struct folder *folder)
{
  snprintf(folder->path, sizeof folder->path, "/tmp/verbacast-test-XXXXXX");
  assert_non_null(mkdtemp(folder->path));
}

static void path_of(const struct folder *folder, const char *name, char *path, size_t size)
{
  int n = snprintf(path, size, "%s/%s", folder->path, name);
  assert_true(n > 0 && (size_t)n < size);
}

const char *folder_file(const struct folder *folder, const char *name)
{
  static _Thread_local char path[512];
  path_of(folder, name, path, sizeof path);
  return path;
}

void folder_remove(struct folder *folder)
{
  DIR *open = opendir(folder->path);
  struct dirent *entry;
  while (open != NULL && (entry = readdir(open)) != NULL) {
    char path[512];
    path_of(folder, entry->d_name, path, sizeof path);
    unlink(path);
  }
  if (open != NULL) {
    closedir(open);
  }
  assert_int_equal(rmdir(folder->path), 0);
}

static int file_holds(const char *path, const char *bytes)
{
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    return 0; // the folder itself
  }
  long size = ftell(file);
  int holds = 0;
  if (size > 0 && size < FILE_MAX_BYTES) {
    char *all = malloc((size_t)size);
    assert_non_null(all);
    rewind(file);
    assert_int_equal(fread(all, 1, (size_t)size, file), size);
    holds = memmem(all, (size_t)size, bytes, strlen(bytes)) != NULL;
    free(all);
  }
  fclose(file);
  return holds;
}

int folder_holds(const struct folder *folder, const char *bytes)
{
  DIR *open = opendir(folder->path);
  struct dirent *entry;
  int holds = 0;
  assert_non_null(open);
  while ((entry = readdir(open)) != NULL) {
    char path[512];
    path_of(folder, entry->d_name, path, sizeof path);
    holds |= entry->d_name[0] != '.' && file_holds(path, bytes);
  }
  closedir(open);
  return holds;
}

static char *print(const struct vc_record_fields *fields)
{
  struct vc_text text = {0};
  vc_record_print(&text, fields);
  assert_false(text.has_failed);
  return text.at;
}

static const struct vc_word words[] = {{"Good", 1.25, 1.5, 0.5}, {"morning.", 1.5, 2, NAN}};

static char *print_final(const char *slug, int64_t epoch, uint64_t seq,
                         const struct vc_utterance *utterance)
{
  return print(&(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                          .session = slug,
                                          .epoch = epoch,
                                          .node = "a1",
                                          .started_at_ms = epoch,
                                          .seq = seq,
                                          .utterance_id = utterance->id,
                                          .utterance = utterance,
                                          .received_at_us = (epoch + 2000) * 1000});
}

char *record_final(const char *slug, int64_t epoch, uint64_t seq, const char *id, const char *text)
{
  const struct vc_utterance utterance = {.id = id,
                                         .text = text,
                                         .language = "en",
                                         .start_s = 1.25,
                                         .end_s = 2,
                                         .confidence = 0.875,
                                         .is_final = 1,
                                         .words = words,
                                         .n_words = 2};
  return print_final(slug, epoch, seq, &utterance);
}

char *record_partial(const char *slug, int64_t epoch, uint64_t seq, const char *id)
{
  return print_final(
      slug, epoch, seq,
      &(struct vc_utterance){.id = id, .text = "Good mor", .language = "en", .end_s = 1});
}

char *record_spread(const char *slug, int64_t epoch, uint64_t seq)
{
  const struct vc_utterance utterance = {.id = "spread",
                                         .text = "Good morning.",
                                         .language = "en",
                                         .start_s = 1.25,
                                         .end_s = 2,
                                         .confidence = NAN,
                                         .is_final = 1,
                                         .is_approximate = 1,
                                         .words = words,
                                         .n_words = 2};
  return print_final(slug, epoch, seq, &utterance);
}

char *record_started(const char *slug, int64_t epoch)
{
  return print(&(struct vc_record_fields){.type = VC_RECORD_TYPE_SESSION_STARTED,
                                          .session = slug,
                                          .epoch = epoch,
                                          .node = "a1",
                                          .started_at_ms = epoch});
}

char *record_ended(const char *slug, int64_t epoch, const char *reason)
{
  return print(&(struct vc_record_fields){.type = VC_RECORD_TYPE_SESSION_ENDED,
                                          .session = slug,
                                          .epoch = epoch,
                                          .node = "a1",
                                          .started_at_ms = epoch,
                                          .ended_at_ms = epoch + 60000,
                                          .reason = reason});
}

char *record_erased(const char *slug, int64_t epoch)
{
  return print(&(struct vc_record_fields){.type = VC_RECORD_TYPE_SESSION_ERASED,
                                          .session = slug,
                                          .epoch = epoch,
                                          .node = "a1",
                                          .erased_at_ms = epoch + 90000});
}
