#include "rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ledger/hand_stage.h"

#define WAKES_MAX 100000

static uint64_t now_ns(void *context)
{
  return ((struct rig *)context)->now_ns;
}

static int64_t unix_us(void *context)
{
  return INT64_C(1790000000000000) + (int64_t)(now_ns(context) / 1000);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return 0;
}

static void leave(struct vc_worker *worker) {}

static const struct vc_stage_ops stt_ops = {.name = "stt", .enter = enter, .leave = leave};

void rig_start(struct rig *rig, int64_t flush_interval_ms)
{
  struct vc_error error;
  *rig = (struct rig){.now_ns = 1000 * VC_NS_PER_S};
  rig->clock = (struct vc_clock){now_ns, unix_us, rig};
  rig->options =
      (struct vc_decode_options){.pcm_chunk_size_ms = 50, .flush_interval_ms = flush_interval_ms};
  rig->metrics = vc_metrics_create(&rig->clock);
  struct vc_stage_settings stt = {.ops = &stt_ops, .n_workers = 1, .clock = &rig->clock};
  assert_int_equal(vc_stage_create(&rig->stt, &stt, &error), 0);
  struct vc_decode_settings decode = {.options = &rig->options,
                                      .stt = rig->stt,
                                      .n_workers = 1,
                                      .clock = &rig->clock,
                                      .metrics = rig->metrics};
  assert_int_equal(vc_decode_create(&rig->decode, &decode, &error), 0);
  assert_int_equal(vc_stage_start(rig->decode, &error), 0);
  rig->putter = vc_putter_create(rig->decode);
  static const char *const slugs[RIG_SESSIONS] = {"first", "second"};
  for (int i = 0; i < RIG_SESSIONS; i++) {
    rig->sessions[i] = vc_session_create(slugs[i], (uint64_t)i + 1, 1790000000000);
    assert_non_null(rig->sessions[i]);
  }
}

void rig_stop(struct rig *rig)
{
  hand_set_capacity(rig->stt, 0, HAND_UNBOUNDED);
  assert_int_equal(vc_stage_stop(rig->decode, 1000), 0);
  rig_hear(rig);
  vc_stage_destroy(&rig->decode);
  vc_stage_destroy(&rig->stt);
  vc_metrics_destroy(&rig->metrics);
  for (int i = 0; i < RIG_SESSIONS; i++) {
    assert_int_equal(rig->sessions[i]->n_refs, 1);
    vc_session_unref(rig->sessions[i]);
    free(rig->heard[i].samples);
  }
}

static void put(struct rig *rig, struct vc_packet *packet)
{
  packet->arrival_ns = rig->now_ns;
  packet->is_discontinuity = rig->is_discontinuity;
  rig->is_discontinuity = 0;
  assert_int_equal(vc_putter_put(rig->putter, 0, &packet->item), 0);
  hand_turn(rig->decode);
  rig_hear(rig);
}

void rig_say(struct rig *rig, int session, enum vc_turn turn)
{
  struct vc_packet *packet = vc_packet_create(rig->sessions[session], turn);
  assert_non_null(packet);
  put(rig, packet);
}

static void put_data(struct rig *rig, struct vc_packet *packet, const uint8_t *bytes, size_t size)
{
  packet->data = vc_buffer_copy(bytes, size);
  assert_non_null(packet->data);
  put(rig, packet);
}

void rig_configure(struct rig *rig, int session, enum vc_codec codec, const uint8_t *config,
                   size_t size)
{
  struct vc_packet *packet = vc_packet_create(rig->sessions[session], VC_TURN_CONFIG);
  assert_non_null(packet);
  packet->codec = codec;
  put_data(rig, packet, config, size);
}

void rig_send(struct rig *rig, int session, enum vc_codec codec, const struct sound_frame *frame,
              uint32_t timestamp_ms)
{
  struct vc_packet *packet = vc_packet_create(rig->sessions[session], VC_TURN_DATA);
  assert_non_null(packet);
  packet->codec = codec;
  packet->timestamp_ms = timestamp_ms;
  put_data(rig, packet, frame->bytes, frame->size);
}

void rig_send_pcm(struct rig *rig, int session, uint32_t rate_hz, uint32_t channels, uint32_t ms)
{
  rig_send_pcm_of(rig, session, rate_hz, channels, RIG_ALL_CHANNELS, ms);
}

void rig_send_pcm_of(struct rig *rig, int session, uint32_t rate_hz, uint32_t channels,
                     uint32_t channel, uint32_t ms)
{
  struct vc_session *of = rig->sessions[session];
  uint32_t n = rate_hz * ms / 1000;
  struct vc_packet *packet = vc_packet_create(of, VC_TURN_DATA);
  int16_t *samples = malloc((size_t)n * channels * sizeof *samples);
  assert_non_null(packet);
  assert_non_null(samples);
  for (uint32_t i = 0; i < n * channels; i++) {
    int is_heard = channel == RIG_ALL_CHANNELS || i % channels == channel;
    samples[i] =
        (int16_t)(is_heard ? 8000 * sin(2 * 3.14159265 * 440 * (i / channels) / rate_hz) : 0);
  }
  packet->codec = VC_CODEC_PCM_S16LE;
  packet->sample_rate_hint_hz = rate_hz;
  packet->channels_hint = channels;
  if (of->first_audio_ns == 0) {
    of->first_audio_ns = rig->now_ns - ms * VC_NS_PER_MS;
  }
  put_data(rig, packet, (const uint8_t *)samples, (size_t)n * channels * sizeof *samples);
  free(samples);
}

void rig_open(struct rig *rig, int session, const struct sound *sound)
{
  rig_say(rig, session, VC_TURN_OPEN);
  rig_configure(rig, session, VC_CODEC_AAC, sound->config, sound->config_size);
}

void rig_play(struct rig *rig, int session, enum vc_codec codec, const struct sound *sound,
              int from, int to, uint32_t timestamp_ms)
{
  uint64_t frame_ns = (uint64_t)sound->frame_samples * VC_NS_PER_S / (uint64_t)sound->rate_hz;
  for (int i = from; i < to; i++) {
    rig_send(rig, session, codec, &sound->frames[i],
             timestamp_ms + sound_timestamp_ms(sound, i - from));
    rig_pass(rig, frame_ns);
  }
}

void rig_pass(struct rig *rig, uint64_t ns)
{
  uint64_t until = rig->now_ns + ns;
  for (int i = 0;; i++) {
    uint64_t wake_at = hand_wake_at_ns(rig->decode, 0);
    if (wake_at == 0 || wake_at > until) {
      break;
    }
    assert_in_range(i, 0, WAKES_MAX);
    rig->now_ns = wake_at > rig->now_ns ? wake_at : rig->now_ns;
    hand_turn(rig->decode);
    rig_hear(rig);
  }
  rig->now_ns = until;
}

void rig_pass_ms(struct rig *rig, uint64_t ms)
{
  rig_pass(rig, ms * VC_NS_PER_MS);
}

static char letter_of(const struct vc_chunk *chunk)
{
  static const char letters[] = {
      [VC_TURN_OPEN] = 'O', [VC_TURN_LOST] = 'L', [VC_TURN_BACK] = 'B', [VC_TURN_CLOSE] = 'C'};
  return chunk->turn != VC_TURN_DATA    ? letters[chunk->turn]
         : chunk->arrival_ns == 0       ? 'z'
         : chunk->n_samples < RIG_CHUNK ? 's'
                                        : 'D';
}

static void hear_samples(struct heard *heard, const struct vc_chunk *chunk)
{
  assert_in_range(chunk->n_samples, 1, RIG_CHUNK);
  assert_int_equal(chunk->pcm->size, chunk->n_samples * 2);
  assert_true(chunk->first_sample >= heard->position);
  heard->n_jumps += chunk->first_sample > heard->position;
  heard->n_jumped += chunk->first_sample - heard->position;
  heard->position = chunk->first_sample + chunk->n_samples;
  if (heard->n_samples + chunk->n_samples > heard->capacity) {
    heard->capacity = 2 * heard->capacity + RIG_CHUNK;
    heard->samples = realloc(heard->samples, heard->capacity * sizeof *heard->samples);
    assert_non_null(heard->samples);
  }
  memcpy(heard->samples + heard->n_samples, chunk->pcm->data, chunk->pcm->size);
  heard->n_samples += chunk->n_samples;
}

void rig_hear(struct rig *rig)
{
  struct vc_item *item;
  while ((item = hand_take(rig->stt, 0)) != NULL) {
    const struct vc_chunk *chunk = (const struct vc_chunk *)item;
    struct heard *heard = &rig->heard[chunk->session->id - 1];
    assert_int_equal(item->kind, VC_ITEM_CHUNK);
    assert_in_range(heard->n_story, 0, RIG_STORY_MAX - 2);
    heard->story[heard->n_story++] = letter_of(chunk);
    if (chunk->turn == VC_TURN_DATA) {
      hear_samples(heard, chunk);
    }
    vc_item_destroy(item);
  }
}

uint64_t rig_counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

size_t rig_count(const struct rig *rig, int session, char letter)
{
  size_t n = 0;
  for (const char *at = rig->heard[session].story; *at != '\0'; at++) {
    n += *at == letter;
  }
  return n;
}

void rig_exact_sound(struct sound *sound, int n)
{
  sound_encode(sound, &(struct sound_wish){"aac", RIG_RATE_HZ, 1, 440, n, 0});
  assert_int_equal(sound->frame_samples, RIG_FRAME);
}
