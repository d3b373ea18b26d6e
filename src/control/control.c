#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/store.h>
#include <verbacast/wire/jwt.h>
#include <verbacast/wire/viewer.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VIEWERS_WORKERS 256 // silent connections hold one each until the front's time-out
#define ADMIN_WORKERS 4
#define NODE_ID_MAX 90

static int check_listen(const char *value, struct vc_error *error)
{
  struct vc_address address;
  return vc_listen_parse(value, &address, error);
}

// It stands in JSON, in Prometheus' labels and in logs: as it is, or not at all.
static int check_node_id(const char *value, struct vc_error *error)
{
  size_t n = 0;
  while (value[n] >= ' ' && value[n] <= '~' && value[n] != '"' && value[n] != '\\') {
    n++;
  }
  return value[n] == '\0' && n <= NODE_ID_MAX
             ? 0
             : vc_error_set(error, "is too long or has a quote, a backslash or worse in it");
}

#define FIELD(name) offsetof(struct vc_control_options, name)
const struct vc_option vc_control_option_rows[] = {
    {"HTTP_LISTEN", VC_OPTION_TEXT, FIELD(http_listen), "127.0.0.1:3000", "HOST:PORT",
     .check = check_listen, .help = "HTTP and WebSocket for viewers."},
    {"ADMIN_LISTEN", VC_OPTION_TEXT, FIELD(admin_listen), "127.0.0.1:3002", "HOST:PORT",
     .check = check_listen,
     .help = "HTTP for operators: answers at once whatever happens on the viewers' port."},
    {"ALLOWED_ORIGINS", VC_OPTION_TEXT, FIELD(allowed_origins), "", "a comma list of origins",
     .help = "Web pages of these origins may open WebSockets, POST and DELETE, besides our own."},
    {"VIEWER_SECRET", VC_OPTION_SECRET, FIELD(viewer_secret), .check = vc_jwt_check_secret,
     .help =
         "Viewers need a JWT: session (a name or *) and exp, HS256 with this secret, or RS256 or "
         "ES256 where it is a public key in PEM."},
    {"PUBLISH_SECRET", VC_OPTION_SECRET, FIELD(publish_secret), .check = vc_jwt_check_secret,
     .help = "Publishers need such a JWT, ?token= behind the stream's name or in the URL of a "
             "participant's stream, by this secret."},
    {"TOKEN_LEEWAY_MS", VC_OPTION_INTEGER, FIELD(token_leeway_ms), "5000", "ms", 0, 300000,
     .help = "How far the clock of who makes tokens may differ from ours: exp counts by so much "
             "later, nbf earlier."},
    {"ADMIN_TOKEN", VC_OPTION_SECRET, FIELD(admin_token),
     .help = "Bearer token for /admin/*, DELETE and, where VIEWER_SECRET is set, for /sessions, "
             "/metrics and /dashboard on the viewers' port."},
    {"INSECURE", VC_OPTION_SWITCH, FIELD(insecure), "0",
     .help = "Serve off loopback, or behind a proxy, without secrets: everybody may watch, publish "
             "and read; /admin/* and DELETE still need ADMIN_TOKEN."},
    {"METRICS_PER_SESSION", VC_OPTION_SWITCH, FIELD(metrics_per_session), "0",
     .help = "Prometheus series by session (JSON always has the live ones)."},
    {"NODE_ID", VC_OPTION_TEXT, FIELD(node_id), "", "up to 90 printable ASCII characters",
     .check = check_node_id,
     .help = "Names this node to viewers and in records; empty: host name and a random number."},
    {"PAGES_DIR", VC_OPTION_TEXT, FIELD(pages_dir), "", "a folder",
     .help = "Pages that are taken from here instead of those built in."},
    VC_OPTION_ROWS_END,
};

static void handle_viewers(void *context, struct vc_request *request)
{
  route(context, request, VIEWERS_DOOR);
}

static void handle_admin(void *context, struct vc_request *request)
{
  route(context, request, ADMIN_DOOR);
}

static int open_socket(void *context, struct vc_request *request)
{
  char slug[VC_SLUG_MAX + 1];
  struct vc_position since;
  if (tracks_are_at(request->path)) {
    return tracks_open(context, request);
  }
  return route_socket(context, request, slug, &since);
}

// The handshake is done: what `open_socket` found good is read again.
static void adopt_socket(void *context, const struct vc_request *request, int fd)
{
  struct vc_control *control = context;
  char text[64];
  if (tracks_are_at(request->path)) {
    tracks_adopt(control, request, fd);
    return;
  }
  struct vc_control_newcomer newcomer = {.fd = fd, .address = request->client};
  newcomer.slug = request->path + strlen("/live/");
  newcomer.begins_ms = request->begins_ms;
  newcomer.expires_ms = request->expires_ms;
  newcomer.is_exempt = vc_limits_exempt(control->settings.proxies, &request->client);
  if (vc_request_query(request, "since", text, sizeof text) == 1) {
    vc_viewer_parse_since(text, &newcomer.since.epoch, &newcomer.since.seq);
  }
  control->settings.adopt(control->settings.context, &newcomer);
}

static int make_putters_and_slots(struct vc_control *control)
{
  const struct vc_control_settings *settings = &control->settings;
  control->ingest = vc_shared_putter_create(settings->ingest);
  control->ledger = vc_shared_putter_create(settings->ledger);
  control->broadcast = vc_shared_putter_create(settings->broadcast);
  control->journal = vc_shared_putter_create(settings->journal);
  if (settings->publisher != NULL) {
    control->publisher = vc_shared_putter_create(settings->publisher);
    control->watcher = vc_shared_putter_create(settings->watcher);
  }
  control->slots = vc_metrics_slots_create(settings->metrics, vc_control_metrics);
  return control->ingest == NULL || control->ledger == NULL || control->broadcast == NULL ||
         control->journal == NULL || control->slots == NULL ||
         (settings->publisher != NULL && (control->publisher == NULL || control->watcher == NULL));
}

static int open_door(struct vc_control *control, struct vc_front **door, struct vc_address *bound,
                     const struct vc_front_settings *settings, struct vc_error *error)
{
  struct vc_front *front = NULL;
  int status = vc_front_start(&front, bound, settings, error);
  pthread_mutex_lock(&control->mutex);
  *door = front;
  pthread_mutex_unlock(&control->mutex);
  return status;
}

static void close_door(struct vc_control *control, struct vc_front **door)
{
  pthread_mutex_lock(&control->mutex);
  struct vc_front *front = *door;
  *door = NULL;
  pthread_mutex_unlock(&control->mutex);
  vc_front_stop(&front);
}

static void make_locks(struct vc_control *control)
{
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&control->mutex, NULL);
  pthread_cond_init(&control->made, &attributes);
  pthread_condattr_destroy(&attributes);
}

int vc_control_start(struct vc_control **control_out, struct vc_address *http,
                     struct vc_address *admin, const struct vc_control_settings *settings,
                     struct vc_error *error)
{
  struct vc_control *control = calloc(1, sizeof *control);
  if (control == NULL) {
    return vc_error_set(error, "control: no memory");
  }
  make_locks(control);
  control->settings = *settings;
  if (control->settings.stored_max == 0) {
    control->settings.stored_max = STORED_MAX;
  }
  if (control->settings.store_rest_ms == 0) {
    control->settings.store_rest_ms = STORE_REST_MS;
  }
  if (control->settings.making_wait_ms == 0) {
    control->settings.making_wait_ms = MAKING_WAIT_MS;
  }
  control->started_ms = vc_clock_unix_ms(settings->clock);
  const struct vc_front_settings viewers = {.listen = settings->options->http_listen,
                                            .n_workers = VIEWERS_WORKERS,
                                            .takes_sockets = 1,
                                            .proxies = settings->proxies,
                                            .handle = handle_viewers,
                                            .open = open_socket,
                                            .adopt = adopt_socket,
                                            .context = control};
  const struct vc_front_settings operators = {.listen = settings->options->admin_listen,
                                              .n_workers = ADMIN_WORKERS,
                                              .proxies = settings->proxies,
                                              .handle = handle_admin,
                                              .context = control};
  int status = make_putters_and_slots(control) != 0 ? vc_error_set(error, "control: no memory") : 0;
  if (status == 0) {
    status = open_door(control, &control->admin, admin, &operators, error);
  }
  if (status == 0) {
    status = open_door(control, &control->viewers, http, &viewers, error);
  }
  if (status != 0) {
    vc_control_stop(&control);
    return -1;
  }
  *control_out = control;
  return 0;
}

void vc_control_drain(struct vc_control *control, int refuses_viewers)
{
  atomic_store_explicit(&control->is_draining, 1, memory_order_relaxed);
  atomic_store_explicit(&control->refuses_viewers, refuses_viewers, memory_order_relaxed);
}

void vc_control_stop(struct vc_control **control)
{
  if (*control != NULL) {
    close_door(*control, &(*control)->viewers);
    close_door(*control, &(*control)->admin);
    vc_shared_putter_destroy(&(*control)->ingest);
    vc_shared_putter_destroy(&(*control)->ledger);
    vc_shared_putter_destroy(&(*control)->broadcast);
    vc_shared_putter_destroy(&(*control)->journal);
    vc_shared_putter_destroy(&(*control)->publisher);
    vc_shared_putter_destroy(&(*control)->watcher);
    pthread_mutex_destroy(&(*control)->mutex);
    pthread_cond_destroy(&(*control)->made);
    free(*control);
    *control = NULL;
  }
}
