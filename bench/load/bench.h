// verbacast-bench: drives real load at a server, measures both ends with one clock, and prints what
// one can believe.
//
//   publishers ──RTMP──▶ system under test ──PCM──▶ speech peer   (ingest: both ends are ours)
//   speech peer ──text──▶ system under test ──WebSocket──▶ viewers (fanout)
//
// Each kind of load is a stage (flow/stage.h) of one worker. A run makes its objects before the
// stages start, lets the workers fill them, and reads them when the stages have stopped: nothing is
// shared meanwhile but the counters that are marked so. A tool that cannot go on says why and ends.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rtmp.h>

#include <verbacast/base/address.h>
#include <verbacast/flow/stage.h>
#include <verbacast/wire/ws.h>

#define SLUG_MAX 32
#define SYSTEMS_MAX 8
#define COUNTS_MAX 8

// Says what went wrong, ends what was started, and exits with 1.
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
// The same of what it was told, with the status of wrong usage.
__attribute__((noreturn, format(printf, 1, 2))) void refuse(const char *format, ...);
void *grow(void *old, size_t n, size_t size); // realloc that does not fail

// --- samples.c: figures and their distribution
struct samples {
  double *at;
  size_t n, capacity;
};
void samples_add(struct samples *samples, double value);
void samples_fini(struct samples *samples);
void samples_sort(struct samples *samples);
// Of sorted samples, `part` 0-1; NAN of none.
double samples_part(const struct samples *samples, double part);
double samples_mean(const struct samples *samples);

// --- sound.c: what publishers play, over and over
struct sound {
  uint8_t *bytes;
  struct sound_frame {
    const uint8_t *at;
    size_t size;
  } * frames; // of AAC: without their ADTS headers
  size_t n_frames;
  uint8_t config[2]; // of AAC: the AudioSpecificConfig
  uint32_t sample_rate_hz;
  uint32_t frame_samples, delay_samples; // of a frame; that the encoder put before the sound
};
// PCM16 of 48 kHz stereo without a header, in pieces of 10 ms, as LiveKit's Track Egress sends it.
void sound_read_pcm(struct sound *sound, const char *path);
void sound_read_adts(struct sound *sound, const char *path);
void sound_fini(struct sound *sound);

// --- system.c: a server that is measured, as a process with children
struct system {
  const char *name;
  const char *command;            // words with blanks between; NULL: it runs already, at `http`
  const char *cores;              // that it may run on, like "0" or "0,2"; NULL: all
  const char *stt_url;            // of its speech peer; NULL: ours
  const char *const *environment; // more "NAME=value" for it, NULL behind the last; or NULL
  // Where viewers and speakers go, with {session} for the session's name.
  const char *watch_path, *publish_path;
  int is_node; // verbacast: speaks to the speech peer; else a broadcaster of its own
  pid_t pid;   // of one that runs already: 0, not known
  struct vc_address rtmp, http, admin, sink; // port 0: it has none
  char folder[256];
};
// The load itself keeps away from the cores of systems where there are others. Before any thread.
void load_avoid_cores(const char *cores);
// Waits for its ready line. On loopback, with free ports; `stt` is where its speech peer listens.
void system_start(struct system *system, const struct vc_address *stt);
int system_has_ended(const struct system *system); // by itself
void system_stop(struct system *system);
void system_stop_all(void); // of whatever runs
// Of all its processes since they began; NAN: there is none.
double system_cpu_s(const struct system *system);
double system_memory_bytes(const struct system *system); // proportional set size
// The body of a GET, NUL-terminated, NULL when there is none; the caller frees it.
char *system_get(const struct vc_address *address, const char *path);
// Of its core: a thread of the load that uses more is the bottleneck.
#define LOAD_BUSY_MAX 0.95
// CPU time of this process's threads.
struct load_usage {
  struct {
    long id;
    double cpu_s;
  } threads[64];
  size_t n;
};
void load_usage(struct load_usage *usage);
// The most that a thread has used between the two.
double load_usage_most(const struct load_usage *before, const struct load_usage *after);
// Share of the machine's time that a hypervisor took since boot, and the load average.
double machine_stolen_s(void);
double machine_load(void);

// --- window.c: a time that is measured
// What is read in it takes its time with many processes: memory before it and behind, CPU time next
// to the clock.
struct window {
  const struct system *system;
  double memory_before, memory_after, cpu_s_before, cpu_s_after;
  struct load_usage load_before, load_after;
  uint64_t from_ns, to_ns;
};
void window_begin(struct window *window, const struct system *system);
void window_end(struct window *window);
double window_s(const struct window *window);
double window_cpu_s(const struct window *window); // of the system
// Of its core, what the busiest thread of the load used.
double window_load_part(const struct window *window);

// --- link.c: a non-blocking connection with what waits to be written
struct link {
  struct vc_watch watch; // first; -1: closed
  void (*take)(struct vc_worker *worker, struct link *link, uint8_t *bytes, size_t size);
  void (*connected)(struct vc_worker *worker, struct link *link); // once; may be NULL
  void (*closed)(struct vc_worker *worker, struct link *link);    // by the other end
  uint8_t *out;
  size_t n_out, out_capacity;
  int receive_buffer; // 0: the system's; before link_open
  uint8_t is_connecting, is_paused;
};
// `number` spreads connections over addresses of loopback: one has ports for some ten thousand.
void link_open(struct vc_worker *worker, struct link *link, const struct vc_address *to,
               size_t number);
// It is not read any more but by link_sip.
void link_pause(struct vc_worker *worker, struct link *link);
void link_sip(struct vc_worker *worker, struct link *link, size_t most);
void link_adopt(struct vc_worker *worker, struct link *link, int fd);
void link_send(struct vc_worker *worker, struct link *link, const void *bytes, size_t size);
void link_close(struct vc_worker *worker, struct link *link);

// Bytes kept until a whole head or message is there.
struct pile {
  char *at;
  size_t n, capacity;
};
void pile_add(struct pile *pile, const void *bytes, size_t size);
void pile_drop(struct pile *pile, size_t n); // from the beginning

// --- publisher.c: publishers in real time, by RTMP
// --- track.c: and participants' streams by WebSocket
struct publisher {
  struct link link; // first
  char slug[SLUG_MAX];
  int step;
  struct pile in;
  struct rtmp_reader reader;
  struct vc_ws_parser parser;
  uint64_t connect_ns, publish_ns; // when connecting began, when the publish command was sent
  uint64_t first_ns;               // when the first audio message was due
  uint64_t *sent_ns;               // of each audio message: when it was handed to the kernel
  size_t n_sent, sent_capacity;
};
enum publisher_step { HANDSHAKE, CONNECTING, CREATING, PUBLISHING, LIVE, LOST };
// How it is done: RTMP's and a track's.
struct publishing_way {
  void (*connected)(struct vc_worker *worker, struct publisher *publisher);
  void (*take)(struct vc_worker *worker, struct publisher *publisher, const uint8_t *bytes,
               size_t size);
  void (*send_frame)(struct vc_worker *worker, struct publisher *publisher,
                     const struct sound_frame *frame, uint32_t timestamp_ms);
};
extern const struct publishing_way rtmp_way, track_way;
struct publishing {
  /* set before start, then read-only */
  const struct publishing_way *way;
  const struct sound *sound;
  struct vc_address to;
  size_t n;
  struct publisher *publishers;
  /* the worker's, read after the stop */
  size_t n_begun;
  /* any thread, atomic */
  _Atomic size_t n_live, n_lost;
};
void publishing_init(struct publishing *publishing, size_t n);
void publishing_fini(struct publishing *publishing);
// How late the messages were that were due in [from_ns, to_ns), or are if they were not sent.
// Behind the stop. Returns: ms of the 99th of 100, NAN: none was.
double publishing_late_ms(const struct publishing *publishing, uint64_t from_ns, uint64_t to_ns);
// It is let in: its sound begins now.
void publisher_go_live(struct vc_worker *worker, struct publisher *publisher);
extern const struct vc_stage_ops publishing_ops; // config: struct publishing *

// --- pace.c: when the next messages are said
struct pace {
  /* set before start, then read-only */
  double rate_hz; // messages a second and session; 0: the next when all readers have the last
  uint32_t burst; // said at once, as much more seldom
  size_t n_readers;
  const uint32_t *readers_of; // of each of n_sessions; NULL: n_due is not counted
  size_t n_sessions;
  /* the speaker's worker's, read after the stop */
  uint64_t said_ns, n_given_up; // n_given_up: of the measured time, when a reader did not get the
                                // last within 1 s
  /* any thread, atomic */
  _Atomic uint64_t last_number; // of every session, without a rate
  _Atomic size_t n_behind;      // readers that do not have it yet
  _Atomic uint64_t measured_from_ns, measured_to_ns;
  _Atomic uint64_t n_due; // receipts of what was said in the measured time
  struct vc_stage *_Atomic speaker;
};
// Without a rate: says what is due at once, and again whenever it is. Thread: any.
void pace_begin(struct pace *pace, struct vc_stage *speaker);
// Before the speaker's stage is stopped.
void pace_end(struct pace *pace);
// Thread: the speaker's. Returns: 1 when `burst` messages are to be said in every session now; the
// last of them has last_number.
int pace_is_due(struct pace *pace, uint64_t now_ns);
// What is said in [from_ns, to_ns) is measured. Where what is due is counted, from_ns is not over
// yet. Thread: any.
void pace_measure(struct pace *pace, uint64_t from_ns, uint64_t to_ns);
int pace_is_measured(struct pace *pace, uint64_t said_ns); // thread: any
// Thread: the speaker's.
void pace_said(struct pace *pace, size_t session, uint64_t said_ns);
// Thread: the speaker's. How late it says what was due in the measured time.
void pace_late(struct pace *pace, struct samples *late_ms, uint64_t due_ns, uint64_t now_ns);
// Thread: any. A reader has a message.
void pace_received(struct pace *pace, uint64_t number);

// --- peer.c: a speech-to-text service that hears nothing and says what it is told to
struct heard { // of one session
  char slug[SLUG_MAX];
  size_t session; // the number in its name
  struct hearing_piece {
    uint64_t at_ns;
    uint64_t n_samples; // all until then
  } * pieces;
  size_t n_pieces, capacity;
  uint64_t *marks; // the sample at which each loud mark begins
  size_t n_marks, marks_capacity;
  uint64_t quiet_samples;
};
struct speech {
  /* set before start, then read-only */
  struct pace *pace; // NULL: it says only what keeps a session going
  double echo_hz;    // 0, or it answers pieces at once, with their numbers, at most so often
  uint32_t messages_per_final;
  int has_words; // it gives times of words
  size_t max_sessions;
  /* the worker's, read after the stop */
  struct heard *heard;
  size_t n_heard;
  struct samples lateness_ms; // of what is measured, as that of viewers who speak
  struct peer *peers;
  /* set by the worker before it has started */
  struct vc_address address;
  /* any thread, atomic */
  _Atomic size_t n_live, n_said; // n_said: stamped transcripts
  _Atomic int is_silent;         // with a rate: it says nothing
};
void speech_init(struct speech *speech, size_t max_sessions);
void speech_fini(struct speech *speech);
extern const struct vc_stage_ops speech_ops; // config: struct speech *

// --- hearing.c: how long the sound took that was heard
#define CHUNKS_PER_S 20 // of all systems
struct hearing {
  const struct heard *heard;
  const struct publisher *publisher;
  const struct sound *sound;
  uint64_t from_ns, to_ns; // pieces that arrived in [from, to)
};
// Returns: seconds of sound beyond a piece's end that were needed for it.
double hearing_delay_s(const struct hearing *hearing);
// From the message that completed a piece to its arrival; NAN: no message did, or it does not
// count.
double hearing_latency_ms(const struct hearing *hearing, double delay_s, size_t piece);
void hearing_measure(const struct hearing *hearing, double delay_s, struct samples *samples);
// Percent of the pieces.
double hearing_short_part(const struct speech *speech);
const struct publisher *hearing_publisher(const struct publishing *publishing, const char *slug);

// A text that says when it was said: "@<ns> #<number> …", at least `size` bytes long.
void stamp_print(char *text, size_t size, uint64_t now_ns, uint64_t number);
// Finds one in a message. Returns: 1 found.
int stamp_find(const uint8_t *bytes, size_t size, uint64_t *at_ns, uint64_t *number);
#define STAMP_TEXT_MAX 200 // makes messages of about 400 bytes

// --- viewer.c: those who watch, and one who says things to a broadcaster that has no speech peer
enum viewer_kind { READER, SLOW, STALLED }; // SLOW: reads 1 KiB a second; STALLED: nothing
struct viewer {
  struct link link; // first
  uint32_t session;
  uint8_t is_open, is_live, kind;
  struct pile in; // until the handshake's end
  struct vc_ws_parser parser;
  uint64_t last_number;
};
// A message that a reader received.
struct receipt {
  uint64_t at_ns, said_ns, number; // its stamp, or what it says of itself:
  double end_s;
  uint32_t session;
  int is_final;
};
struct receipts {
  struct receipt *at;
  size_t n, capacity;
};
// Of one thread.
struct viewing {
  /* set before start, then read-only */
  int keeps_receipts; // of all transcripts, stamped or not
  struct vc_address to;
  struct pace *pace;
  const char *watch_path, *publish_path;
  size_t first, n; // of all viewers these
  size_t first_session, n_sessions;
  size_t opening_max;               // at once; 0: 64
  uint64_t live_from_ns;            // who has heard what was said since is live
  int has_speakers;                 // say themselves what is to be broadcast, at /publish/{slug}
  uint32_t slow_part, stalled_part; // percent of the viewers
  struct viewer *viewers;
  struct viewer *speakers; // n_sessions
  /* the worker's, read after the stop */
  struct samples delay_ms, lateness_ms;
  uint64_t n_disordered, n_said, next_ns, next_sip_ns;
  uint64_t n_before; // messages that were said before live_from_ns
  size_t n_begun;
  struct receipts receipts;
  /* any thread, atomic */
  _Atomic size_t n_open, n_live, n_lost;
  _Atomic uint64_t epoch, seq; // of the first message of all
  // By readers: what is measured, each once; what came in the measured time, whenever it was said.
  _Atomic uint64_t n_received, n_arrived;
};
// Of which kind is the viewer number i of all?
enum viewer_kind viewer_kind_of(size_t i, uint32_t slow_part, uint32_t stalled_part);
// What is set before start is, but the address.
void viewing_init(struct viewing *viewing);
void viewing_fini(struct viewing *viewing);
extern const struct vc_stage_ops viewing_ops; // config: struct viewing *

// --- send_loop.c: the bound: a server that does nothing but send() in a loop
// `gathers`: once a viewer for what came together.
int send_loop_main(int gathers);

// --- decode_loop.c: the bound of an ingest
// libavcodec and libswresample in a loop over n streams, for `for_s` of CPU time. Of AAC.
struct loop_cost {
  double cpu_s; // a second of sound
  double bytes; // a stream: what the two have allocated
};
// Thread: the main one, whose allocations alone are known.
struct loop_cost decode_loop(const struct sound *sound, size_t n, double for_s);

// --- report.c: rows of figures, over rounds
enum figure_kind { FIGURE_MS, FIGURE_PER_S, FIGURE_PERCENT, FIGURE_US, FIGURE_MIB, FIGURE_COUNT };
struct report;
struct report *report_create(const char *what);
void report_destroy(struct report **report);
// One figure of one round. Rows and columns come out in the order of their first mention.
void report_add(struct report *report, const char *row, const char *column, enum figure_kind kind,
                double value);
// A latency that a system tells of itself. `metrics`: the body of its /metrics, or NULL; `what`:
// "avg", "p50", …
void report_add_own(struct report *report, const char *row, const char *column, const char *metrics,
                    const char *name, const char *what);
// The latencies of one round, sorted, for the plot.
void report_add_latency(struct report *report, const char *row, const struct samples *ms);
// Returns: how many rows and rounds had no latency at all: nothing was measured there.
size_t report_n_empty(const struct report *report);
void report_note(struct report *report, const char *note);
void report_print(const struct report *report);
void report_write_json(const struct report *report, const char *path);
void report_write_plot(struct report *report, const char *path);

// --- plot.c: the latencies of rows as an SVG
struct distribution {
  const char *name;
  struct samples samples; // ms, sorted
};
void plot_write(const char *path, const char *title, const struct distribution *rows, size_t n);

// --- database.c: questions to PostgreSQL; dies of one that has no answer
struct database;
struct database *database_open(const char *url);
void database_close(struct database **database);
// The first row's numbers, NAN for those that are not there.
__attribute__((format(printf, 4, 5))) void database_ask(struct database *database, double *figures,
                                                        size_t n, const char *format, ...);
// The first column of all rows.
__attribute__((format(printf, 3, 4))) void
database_ask_column(struct database *database, struct samples *samples, const char *format, ...);

// --- ingest.c, fanout.c: the measurements
struct plan {
  int64_t seconds, rounds, warm_up_s, n_sessions, burst, messages_per_final, n_threads,
      n_viewers; // of a session, where counts are of something else
  double rate_hz;
  size_t counts[COUNTS_MAX]; // streams or viewers
  size_t n_counts;
  size_t stalled[COUNTS_MAX], slow[COUNTS_MAX]; // percent
  size_t n_stalled, n_slow;
  const char *audio, *cores;
  const char *stt;   // pipeline: a real one's URL; NULL: the scripted one
  int is_pcm;        // ingest: participants' streams, no RTMP
  int is_until_full; // ingest: after the counts, as many streams as can be
  /* sink */
  const char *brokers, *topic, *database;
  struct system sink;
  int64_t n_drain; // finals of a full topic; 0: none
  size_t batches[COUNTS_MAX];
  size_t n_batches;
  /* all */
  struct system systems[SYSTEMS_MAX];
  size_t n_systems;
  struct report *report;
};
// Refuses crowds in which nobody reads.
void fanout_check(const struct plan *plan);
// Return: 1 when the load itself was late: the figures cannot be believed.
int ingest_run(struct plan *plan);
int fanout_run(struct plan *plan);
int pipeline_run(struct plan *plan);
int rejoin_run(struct plan *plan); // of the first system, which is the node
int sink_run(struct plan *plan);

// --- stages.c
struct vc_stage *load_start(const struct vc_stage_ops *ops, void *config);
void load_stop(struct vc_stage **stage);
// Waits until `*counter` has reached n; dies after `seconds`.
void load_wait(_Atomic size_t *counter, size_t n, double seconds, const char *what);
void load_sleep(double seconds);
void load_handle_nothing(struct vc_worker *worker, struct vc_item *item);
