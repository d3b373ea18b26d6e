#include "fault_vfs.h"

#include <assert.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct fault_file {
  sqlite3_file base;
  int is_wal;
  sqlite3_file real; // as long as the real VFS wants it
};

static sqlite3_vfs *real_vfs;
static _Atomic unsigned failing;
static _Atomic int failing_code = SQLITE_IOERR;
static _Atomic size_t seen, fail_after, fail_n, slept_us;
static _Atomic int trace_fd = -1;
static _Atomic long long log_max = LLONG_MAX; // bytes

static sqlite3_file *real_of(sqlite3_file *file)
{
  return &((struct fault_file *)file)->real;
}

// Returns: SQLITE_OK, or what the operation fails with.
static int meet(enum fault_operation operation)
{
  if ((atomic_load(&failing) & operation) == 0) {
    return SQLITE_OK;
  }
  size_t at = atomic_fetch_add(&seen, 1), after = atomic_load(&fail_after);
  return at >= after && at - after < atomic_load(&fail_n) ? atomic_load(&failing_code) : SQLITE_OK;
}

static void trace(sqlite3_file *file, const char *line)
{
  int fd = atomic_load(&trace_fd);
  if (fd >= 0 && ((struct fault_file *)file)->is_wal) {
    ssize_t n = write(fd, line, strlen(line));
    assert(n == (ssize_t)strlen(line));
    (void)n;
  }
}

static int close_file(sqlite3_file *file)
{
  return real_of(file)->pMethods->xClose(real_of(file));
}

static int read_file(sqlite3_file *file, void *into, int size, sqlite3_int64 at)
{
  int status = meet(FAULT_READ);
  return status != SQLITE_OK ? status
                             : real_of(file)->pMethods->xRead(real_of(file), into, size, at);
}

static int write_file(sqlite3_file *file, const void *from, int size, sqlite3_int64 at)
{
  int status = meet(FAULT_WRITE);
  if (((struct fault_file *)file)->is_wal && at + size > atomic_load(&log_max)) {
    return SQLITE_FULL;
  }
  if (status == SQLITE_OK) {
    trace(file, "wal-write\n");
    status = real_of(file)->pMethods->xWrite(real_of(file), from, size, at);
  }
  return status;
}

static int truncate_file(sqlite3_file *file, sqlite3_int64 size)
{
  int status = meet(FAULT_WRITE);
  return status != SQLITE_OK ? status : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int sync_file(sqlite3_file *file, int flags)
{
  int status = meet(FAULT_SYNC);
  if (status == SQLITE_OK) {
    status = real_of(file)->pMethods->xSync(real_of(file), flags);
    trace(file, "wal-sync\n");
  }
  return status;
}

static int size_of_file(sqlite3_file *file, sqlite3_int64 *size)
{
  return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int lock_file(sqlite3_file *file, int kind)
{
  int status = meet(FAULT_LOCK);
  return status != SQLITE_OK ? status : real_of(file)->pMethods->xLock(real_of(file), kind);
}

static int unlock_file(sqlite3_file *file, int kind)
{
  return real_of(file)->pMethods->xUnlock(real_of(file), kind);
}

static int check_reserved(sqlite3_file *file, int *result)
{
  return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int control_file(sqlite3_file *file, int operation, void *argument)
{
  return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int sector_size(sqlite3_file *file)
{
  return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int characteristics(sqlite3_file *file)
{
  return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int map_index(sqlite3_file *file, int page, int size, int is_growing, void volatile **into)
{
  int status = is_growing ? meet(FAULT_WRITE) : SQLITE_OK;
  return status != SQLITE_OK
             ? status
             : real_of(file)->pMethods->xShmMap(real_of(file), page, size, is_growing, into);
}

static int lock_index(sqlite3_file *file, int offset, int n, int flags)
{
  int status = (flags & SQLITE_SHM_LOCK) != 0 ? meet(FAULT_LOCK) : SQLITE_OK;
  return status != SQLITE_OK ? status
                             : real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void barrier(sqlite3_file *file)
{
  real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int unmap_index(sqlite3_file *file, int must_delete)
{
  return real_of(file)->pMethods->xShmUnmap(real_of(file), must_delete);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = size_of_file,
    .xLock = lock_file,
    .xUnlock = unlock_file,
    .xCheckReservedLock = check_reserved,
    .xFileControl = control_file,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = characteristics,
    .xShmMap = map_index,
    .xShmLock = lock_index,
    .xShmBarrier = barrier,
    .xShmUnmap = unmap_index,
};

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
  struct fault_file *fault = (struct fault_file *)file;
  fault->base.pMethods = NULL;
  int status = meet(FAULT_OPEN);
  if (status == SQLITE_OK) {
    status = real_vfs->xOpen(real_vfs, name, &fault->real, flags, out);
  }
  if (status == SQLITE_OK) {
    fault->base.pMethods = &methods;
    fault->is_wal = (flags & SQLITE_OPEN_WAL) != 0;
  }
  return status;
}

static int sleep_us(sqlite3_vfs *vfs, int us)
{
  atomic_fetch_add(&slept_us, (size_t)us);
  return real_vfs->xSleep(real_vfs, us);
}

void fault_vfs_install(void)
{
  static sqlite3_vfs vfs;
  sqlite3_initialize();
  real_vfs = sqlite3_vfs_find(NULL);
  vfs = *real_vfs; // all else is the real one's; its functions look at pAppData alone
  vfs.zName = "fault";
  vfs.pNext = NULL;
  vfs.szOsFile = (int)offsetof(struct fault_file, real) + real_vfs->szOsFile;
  vfs.xOpen = open_file;
  vfs.xSleep = sleep_us;
  sqlite3_vfs_register(&vfs, 1);
}

void fault_vfs_fail(unsigned operations, int code, size_t after, size_t n)
{
  atomic_store(&failing, 0);
  atomic_store(&failing_code, code);
  atomic_store(&seen, 0);
  atomic_store(&fail_after, after);
  atomic_store(&fail_n, n);
  atomic_store(&failing, operations);
}

void fault_vfs_heal(void)
{
  atomic_store(&failing, 0);
  atomic_store(&log_max, LLONG_MAX);
}

void fault_vfs_limit_log(long long bytes)
{
  atomic_store(&log_max, bytes);
}

size_t fault_vfs_seen(void)
{
  return atomic_load(&seen);
}

size_t fault_vfs_slept_us(void)
{
  return atomic_load(&slept_us);
}

void fault_vfs_trace(int fd)
{
  atomic_store(&trace_fd, fd);
}
