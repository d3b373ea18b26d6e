// A disk that fails when it is told to: a SQLite VFS in front of the system's. It becomes the
// default, so that the code under test knows nothing of it.
#pragma once

#include <stddef.h>

enum fault_operation {
  FAULT_OPEN = 1,
  FAULT_WRITE = 2, // truncations and growing the index of the log, too
  FAULT_SYNC = 4,
  FAULT_LOCK = 8, // taking one; also those of the index
  FAULT_READ = 16,
};
#define FAULT_ANY 31

void fault_vfs_install(void);
// Of the operations that are in the set from now on, `n` fail after `after` went well.
void fault_vfs_fail(unsigned operations, int code, size_t after, size_t n);
void fault_vfs_heal(void);
// The write-ahead log finds no room beyond so many bytes, until it is healed.
void fault_vfs_limit_log(long long bytes);
// Returns: operations of the set of the last fault_vfs_fail that were seen since.
size_t fault_vfs_seen(void);
// Returns: for how long SQLite has waited for locks, since the start.
size_t fault_vfs_slept_us(void);
// Writes "wal-write" and "wal-sync", a line for each of the write-ahead log, to a descriptor; -1
// ends it.
void fault_vfs_trace(int fd);
