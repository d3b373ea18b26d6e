#include "ledger.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 16

// A run of pointers that grows at its end and is eaten from its front.
static int make_room(struct history *history)
{
  if (history->first + history->n < history->capacity) {
    return 0;
  }
  if (history->first > history->capacity / 2) {
    memmove(history->items, history->items + history->first, history->n * sizeof history->items[0]);
    history->first = 0;
    return 0;
  }
  size_t capacity = history->capacity == 0 ? CAPACITY_MIN : history->capacity * 2;
  struct vc_message **items = realloc(history->items, capacity * sizeof *items);
  if (items == NULL) {
    return -1;
  }
  history->items = items;
  history->capacity = capacity;
  return 0;
}

int history_push(struct history *history, struct vc_message *message)
{
  if (make_room(history) != 0) {
    return -1;
  }
  history->items[history->first + history->n++] = message;
  return 0;
}

struct vc_message *history_pop(struct history *history)
{
  if (history->n == 0) {
    return NULL;
  }
  struct vc_message *oldest = history->items[history->first++];
  if (--history->n == 0) {
    free(history->items);
    *history = (struct history){0};
  }
  return oldest;
}

struct vc_message *history_after(const struct history *history, uint64_t seq,
                                 enum history_kinds kinds)
{
  size_t low = history->first, end = history->first + history->n, high = end;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (history->items[middle]->seq > seq) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  while (low < end && kinds == HISTORY_FINALS_ONLY &&
         history->items[low]->kind != VC_MESSAGE_FINAL) {
    low++;
  }
  return low < end ? history->items[low] : NULL;
}

uint64_t history_before_last_finals(const struct history *history, size_t n, uint64_t none)
{
  for (size_t at = history->first + history->n; at > history->first; at--) {
    const struct vc_message *message = history->items[at - 1];
    if (message->kind == VC_MESSAGE_FINAL) {
      if (n == 0) {
        return message->seq;
      }
      if (--n == 0) {
        return message->seq - 1;
      }
    }
  }
  return none;
}

size_t message_bytes(const struct vc_message *message)
{
  size_t bytes = sizeof *message + sizeof(struct vc_message *);
  if (message->frame != NULL) {
    bytes += sizeof *message->frame + message->frame->capacity;
  }
  if (message->record != NULL) {
    bytes += sizeof *message->record + message->record->capacity;
  }
  return bytes;
}
