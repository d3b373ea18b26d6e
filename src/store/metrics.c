#include <verbacast/store.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/log.h>

enum { STORED, REPEATED, ERASED, CONFLICTS, POISONED, EXPIRE_FAILED, WRITE_MS };
const struct vc_metric vc_store_metrics[] = {
    [STORED] = {"store.stored_total", VC_METRIC_COUNTER, "records",
                "Records that the database has taken."},
    [REPEATED] = {"store.repeated_total", VC_METRIC_COUNTER, "records",
                  "Records that were there already, the same."},
    [ERASED] = {"store.erased_total", VC_METRIC_COUNTER, "records",
                "Records not kept because their session was erased."},
    [CONFLICTS] = {"store.conflicts_total", VC_METRIC_COUNTER, "records",
                   "Records whose place is taken by another text; they are dead letters."},
    [POISONED] = {"store.poisoned_total", VC_METRIC_COUNTER, "records",
                  "Rows that are no record; they are dead letters."},
    [EXPIRE_FAILED] = {"store.expire_failed_total", VC_METRIC_COUNTER, "sessions",
                       "Tries to delete a session because of RETENTION_DAYS that failed; it is "
                       "passed over until the others had their turn."},
    [WRITE_MS] = {"store.write_ms", VC_METRIC_DISTRIBUTION, "ms",
                  "One transaction of the database."},
    VC_METRIC_ROWS_END,
};

static void tell_outcome(struct vc_slots *slots, const struct vc_store_row *row)
{
  static const size_t counters[] = {[VC_STORE_STORED] = STORED,
                                    [VC_STORE_REPEATED] = REPEATED,
                                    [VC_STORE_ERASED] = ERASED,
                                    [VC_STORE_CONFLICT] = CONFLICTS,
                                    [VC_STORE_POISONED] = POISONED};
  vc_metric_add(slots, counters[row->outcome], 1);
  if (row->outcome == VC_STORE_CONFLICT || row->outcome == VC_STORE_POISONED) {
    vc_log(VC_LOG_ERROR, VC_EVENT("store.dead"), VC_STR("session", row->key),
           VC_INT("epoch", row->epoch), VC_STR("why", row->why), VC_INT("bytes", row->size));
  }
}

void vc_store_tell(struct vc_slots *slots, const struct vc_store_row *rows, size_t n_rows)
{
  for (size_t i = 0; i < n_rows; i++) {
    tell_outcome(slots, &rows[i]);
  }
}

void vc_store_tell_time(struct vc_slots *slots, uint64_t begun_ns, uint64_t ended_ns)
{
  vc_metric_record(slots, WRITE_MS, (double)(ended_ns - begun_ns) / (double)VC_NS_PER_MS, ended_ns);
}

void vc_store_tell_expiry(struct vc_slots *slots, const struct vc_store_expiry *expiry)
{
  if (expiry->n_kept > 0) {
    vc_metric_add(slots, EXPIRE_FAILED, (uint64_t)expiry->n_kept);
    vc_log(VC_LOG_WARN, VC_EVENT("store.expire_failed"), VC_INT("sessions", expiry->n_kept),
           VC_STR("why", expiry->why.text));
  }
}
