#include <verbacast/flow/health.h>

#include <verbacast/base/log.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vc_health {
  const struct vc_clock *clock;
  pthread_mutex_t mutex; // guards what follows
  size_t n;
  struct vc_condition conditions[VC_HEALTH_MAX];
};

struct vc_health *vc_health_create(const struct vc_clock *clock)
{
  struct vc_health *health = calloc(1, sizeof *health);
  if (health != NULL) {
    health->clock = clock;
    pthread_mutex_init(&health->mutex, NULL);
  }
  return health;
}

void vc_health_destroy(struct vc_health **health)
{
  if (*health != NULL) {
    pthread_mutex_destroy(&(*health)->mutex);
    free(*health);
    *health = NULL;
  }
}

static struct vc_condition *find(struct vc_health *health, const char *what)
{
  for (size_t i = 0; i < health->n; i++) {
    if (strcmp(health->conditions[i].what, what) == 0) {
      return &health->conditions[i];
    }
  }
  return NULL;
}

void vc_health_set(struct vc_health *health, const char *what, const char *reason)
{
  if (health == NULL) {
    return;
  }
  pthread_mutex_lock(&health->mutex);
  struct vc_condition *condition = find(health, what);
  int is_new = condition == NULL;
  if (is_new && health->n < VC_HEALTH_MAX) {
    condition = &health->conditions[health->n++];
    snprintf(condition->what, sizeof condition->what, "%s", what);
    condition->since_unix_ms = vc_clock_unix_ms(health->clock);
  }
  int is_changed =
      condition != NULL && strncmp(condition->reason, reason, sizeof condition->reason - 1) != 0;
  if (is_changed) {
    snprintf(condition->reason, sizeof condition->reason, "%s", reason);
  }
  pthread_mutex_unlock(&health->mutex);
  if (is_new || is_changed) {
    vc_log(VC_LOG_WARN, VC_EVENT("health.degraded"), VC_STR("what", what),
           VC_STR("reason", reason));
  }
}

void vc_health_clear(struct vc_health *health, const char *what)
{
  if (health == NULL) {
    return;
  }
  pthread_mutex_lock(&health->mutex);
  struct vc_condition *condition = find(health, what);
  if (condition != NULL) {
    size_t at = (size_t)(condition - health->conditions);
    memmove(condition, condition + 1, (health->n - at - 1) * sizeof *condition);
    memset(&health->conditions[--health->n], 0, sizeof *condition);
  }
  pthread_mutex_unlock(&health->mutex);
  if (condition != NULL) {
    vc_log(VC_LOG_INFO, VC_EVENT("health.restored"), VC_STR("what", what));
  }
}

size_t vc_health_list(struct vc_health *health, struct vc_condition into[VC_HEALTH_MAX])
{
  pthread_mutex_lock(&health->mutex);
  size_t n = health->n;
  memcpy(into, health->conditions, n * sizeof *into);
  pthread_mutex_unlock(&health->mutex);
  return n;
}

void vc_health_print_prometheus(struct vc_health *health, FILE *out)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  size_t n = vc_health_list(health, conditions);
  fputs("# HELP verbacast_degraded 1 for each thing that is degraded.\n"
        "# TYPE verbacast_degraded gauge\n",
        out);
  for (size_t i = 0; i < n; i++) {
    fprintf(out, "verbacast_degraded{what=\"%s\"} 1\n", conditions[i].what);
  }
}

void vc_program_state_print_prometheus(const struct vc_program_state *state, FILE *out)
{
  fputs("# HELP verbacast_stuck 1 for a thread that has been silent for more than 5 s.\n"
        "# TYPE verbacast_stuck gauge\n",
        out);
  if (state->stuck != NULL) {
    fprintf(out, "verbacast_stuck{worker=\"%s\"} 1\n", state->stuck);
  }
  fprintf(out,
          "# HELP verbacast_draining 1 since the drain began.\n# TYPE verbacast_draining gauge\n"
          "verbacast_draining %d\n"
          "# HELP verbacast_info What runs here.\n# TYPE verbacast_info gauge\n"
          "verbacast_info{node=\"%s\",version=\"%s\"} 1\n",
          state->is_draining, state->node, state->version);
}

void vc_health_print(struct vc_health *health, struct vc_text *text)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  size_t n = vc_health_list(health, conditions);
  vc_text_add(text, "[");
  for (size_t i = 0; i < n; i++) {
    vc_text_add(text, i > 0 ? ",{\"what\":" : "{\"what\":");
    vc_text_json_string(text, conditions[i].what);
    vc_text_add(text, ",\"since\":");
    vc_text_json_number(text, (double)conditions[i].since_unix_ms / 1000, 3);
    vc_text_add(text, ",\"reason\":");
    vc_text_json_string(text, conditions[i].reason);
    vc_text_add(text, "}");
  }
  vc_text_add(text, "]");
}
