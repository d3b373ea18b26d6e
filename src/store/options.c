#include <verbacast/store.h>

#define FIELD(name) offsetof(struct vc_store_options, name)
const struct vc_option vc_store_option_rows[] = {
    {"DATABASE_URL", VC_OPTION_TEXT, FIELD(database_url), "sqlite:verbacast.db",
     "sqlite:PATH, postgresql://USER@HOST/DATABASE, or empty for none", .check = vc_store_check_url,
     .help = "The store that finals end up in and that past transcripts are read from."},
    VC_OPTION_ROWS_END,
};

const struct vc_option vc_store_batch_option_rows[] = {
    {"BATCH_FLUSH_INTERVAL_MS", VC_OPTION_INTEGER, FIELD(batch_flush_interval_ms), "300", "ms", 1,
     60000, .help = "How long a batch for the database gathers."},
    {"BATCH_MAX_SIZE", VC_OPTION_INTEGER, FIELD(batch_max_size), "100", "rows", 1, 10000,
     .help = "Rows in one transaction of the database."},
    {"BATCH_MAX_QUEUE", VC_OPTION_INTEGER, FIELD(batch_max_queue), "1000", "rows", 1, 1000000,
     .help = "Rows held in memory for the database; node and sink hold one batch at most, the rest "
             "lies in the journal, or in Kafka."},
    {"RETENTION_DAYS", VC_OPTION_INTEGER, FIELD(retention_days), "0", "days", 0, 36500,
     .help = "Sessions that ended longer ago are deleted, a few at a time; 0 keeps them. Of no use "
             "to a node that has Kafka: the sink deletes."},
    VC_OPTION_ROWS_END,
};
