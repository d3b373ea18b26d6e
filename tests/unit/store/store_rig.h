// What the tests of store and journal share: a folder of one's own, and records.
#pragma once

#include <stdint.h>

#include <verbacast/store.h>

struct folder {
  char path[64];
};

// Asserts that it works.
void folder_make(struct folder *folder);
void folder_remove(struct folder *folder);
// "FOLDER/NAME", good until the next call.
const char *folder_file(const struct folder *folder, const char *name);
// Returns: 1 when the bytes stand anywhere in a file of the folder.
int folder_holds(const struct folder *folder, const char *bytes);

// JSON of records, malloc'ed.
char *record_final(const char *slug, int64_t epoch, uint64_t seq, const char *id, const char *text);
char *record_partial(const char *slug, int64_t epoch, uint64_t seq, const char *id);
char *record_spread(const char *slug, int64_t epoch, uint64_t seq); // its word times were spread
char *record_started(const char *slug, int64_t epoch);
char *record_ended(const char *slug, int64_t epoch, const char *reason);
char *record_erased(const char *slug, int64_t epoch);
