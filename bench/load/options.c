#include <stddef.h>

#include "bench_options.h"

const struct vc_option bench_option_rows[] = {
    {"BENCH_COUNTS", VC_OPTION_TEXT, offsetof(struct bench_options, counts), .initial = "1,25,100",
     .help = "Streams (ingest, pipeline), viewers (fanout, rejoin) or finals a second (sink; 0: "
             "none) of one measurement after the other."},
    {"BENCH_SECONDS", VC_OPTION_INTEGER, offsetof(struct bench_options, seconds), .initial = "15",
     .unit = "s", .min = 1, .max = 3600,
     .help = "Time that is measured, of each system and count."},
    {"BENCH_WARM_UP_S", VC_OPTION_INTEGER, offsetof(struct bench_options, warm_up_s),
     .initial = "3", .unit = "s", .min = 0, .max = 600, .help = "Time under load before it."},
    {"BENCH_ROUNDS", VC_OPTION_INTEGER, offsetof(struct bench_options, rounds), .initial = "3",
     .min = 1, .max = 64, .help = "Rounds; the systems take turns in each."},
    {"BENCH_SESSIONS", VC_OPTION_INTEGER, offsetof(struct bench_options, n_sessions),
     .initial = "1", .min = 1, .max = 1000,
     .help = "fanout: sessions that share the viewers; rejoin: those beside; sink: that share the "
             "finals, or more: as many as give each no more than 100 a second."},
    {"BENCH_RATE_HZ", VC_OPTION_REAL, offsetof(struct bench_options, rate_hz), .initial = "5",
     .unit = "1/s", .min = 0, .max = 10000,
     .help = "fanout, pipeline, rejoin: messages a second and session; 0: the next as soon as all "
             "have the "
             "last (fanout)."},
    {"BENCH_BURST", VC_OPTION_INTEGER, offsetof(struct bench_options, burst), .initial = "1",
     .min = 1, .max = 1000, .help = "fanout: messages that are said at once."},
    {"BENCH_STALLED", VC_OPTION_TEXT, offsetof(struct bench_options, stalled), .initial = "0",
     .unit = "%",
     .help =
         "fanout: so many of the viewers read nothing, of one measurement after the other. They "
         "are no part of the figures."},
    {"BENCH_SLOW", VC_OPTION_TEXT, offsetof(struct bench_options, slow), .initial = "0",
     .unit = "%", .help = "fanout: the same of viewers that read 1 KiB a second."},
    {"BENCH_VIEWERS", VC_OPTION_INTEGER, offsetof(struct bench_options, n_viewers), .initial = "10",
     .min = 1, .max = 10000,
     .help = "Viewers of each stream (pipeline), of each session beside (rejoin)."},
    {"BENCH_STT", VC_OPTION_TEXT, offsetof(struct bench_options, stt), .initial = "",
     .help = "pipeline: address of a real speech-to-text service, like "
             "http://127.0.0.1:4100/v2/live of verbacast-stt; empty: the scripted one. The sound "
             "should then have no marks (make-audio --plain)."},
    {"BENCH_THREADS", VC_OPTION_INTEGER, offsetof(struct bench_options, n_threads), .initial = "1",
     .min = 1, .max = 16, .help = "fanout: threads that have the viewers."},
    {"BENCH_MESSAGES_PER_FINAL", VC_OPTION_INTEGER,
     offsetof(struct bench_options, messages_per_final), .initial = "10", .min = 1, .max = 1000,
     .help = "fanout: each so manieth message of the node's is a final, the others are partials."},
    {"BENCH_AUDIO", VC_OPTION_TEXT, offsetof(struct bench_options, audio), .initial = "",
     .help = "ADTS file that publishers play, or raw PCM; bench/load/make-audio makes one "
             "(needed)."},
    {"BENCH_PUBLISH", VC_OPTION_CHOICE, offsetof(struct bench_options, publish), .initial = "rtmp",
     .choices = "rtmp,pcm",
     .help =
         "ingest: how publishers come; pcm: as single participants by WebSocket, which only the "
         "node takes. BENCH_AUDIO is then 48 kHz stereo s16le without a header."},
    {"BENCH_UNTIL_FULL", VC_OPTION_SWITCH, offsetof(struct bench_options, until_full),
     .initial = "0",
     .help = "ingest: then as many streams as can be, from the last of BENCH_COUNTS on: a quarter "
             "more each time, until sound comes later than a piece is long, or does not come. Give "
             "the systems a core of their own (BENCH_CORES)."},
    {"BENCH_NODE", VC_OPTION_TEXT, offsetof(struct bench_options, node), .initial = "",
     .help = "The node's program; empty: the verbacast that was built with this; none: no node."},
    {"BENCH_PEERS", VC_OPTION_TEXT, offsetof(struct bench_options, peers), .initial = "",
     .help = "Other systems to measure in turn: name=command with blanks; the next behind a "
             "semicolon. See bench/README.md for what such a command must do."},
    {"BENCH_PEER", VC_OPTION_TEXT, offsetof(struct bench_options, peer), .initial = "",
     .help =
         "fanout: a server that runs already, at ws://ADDRESS:PORT/PATH, where {session} in the "
         "path stands for the session; behind a blank the same of where messages are said to "
         "it, else /publish/{session} there; behind a blank pid=ID, of whose process CPU and "
         "memory are told."},
    {"BENCH_CORES", VC_OPTION_TEXT, offsetof(struct bench_options, cores), .initial = "",
     .help = "Cores that the systems run on, like 0 or 0,1; the load takes the others. Empty: all "
             "share all."},
    {"BENCH_BROKERS", VC_OPTION_TEXT, offsetof(struct bench_options, brokers), .initial = "",
     .help = "sink: Kafka that runs already, as KAFKA_BROKERS (needed)."},
    {"BENCH_TOPIC", VC_OPTION_TEXT, offsetof(struct bench_options, topic), .initial = "bench",
     .help = "sink: a topic of finals that is the bench's own, with those beside it that "
             "KAFKA_TOPIC has (deploy/kafka topics makes them)."},
    {"BENCH_DATABASE", VC_OPTION_TEXT, offsetof(struct bench_options, database), .initial = "",
     .help = "sink: postgresql://USER@HOST/DATABASE of a database that is the bench's own, of a "
             "server with track_commit_timestamp=on (needed). Its rows stay."},
    {"BENCH_SINK", VC_OPTION_TEXT, offsetof(struct bench_options, sink), .initial = "",
     .help = "sink: the sink's program; empty: the verbacast-sink that was built with this."},
    {"BENCH_DRAIN", VC_OPTION_INTEGER, offsetof(struct bench_options, drain), .initial = "20000",
     .unit = "finals", .min = 0, .max = 10000000,
     .help = "sink: then so many are in the topic before a sink begins to empty it; 0: this is not "
             "measured."},
    {"BENCH_BATCHES", VC_OPTION_TEXT, offsetof(struct bench_options, batches),
     .initial = "100,1000", .unit = "rows",
     .help = "sink: BATCH_MAX_SIZE of the sinks that do, one after the other."},
    {"BENCH_JSON", VC_OPTION_TEXT, offsetof(struct bench_options, json), .initial = "",
     .help = "File for the figures as JSON."},
    {"BENCH_PLOT", VC_OPTION_TEXT, offsetof(struct bench_options, plot), .initial = "",
     .help = "File for the distributions of latencies as SVG."},
    VC_OPTION_ROWS_END,
};
