#include "sound.h"

#include <verbacast/flow/chunk.h>

#include <libavcodec/avcodec.h>
#include <libavutil/channel_layout.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define AMPLITUDE 0.25
#define BITS_PER_CHANNEL 64000

static AVCodecContext *open_encoder(const struct sound_wish *wish)
{
  const AVCodec *codec = avcodec_find_encoder_by_name(wish->encoder);
  assert_non_null(codec);
  AVCodecContext *context = avcodec_alloc_context3(codec);
  assert_non_null(context);
  context->sample_rate = wish->rate_hz;
  context->sample_fmt = codec->sample_fmts[0];
  context->bit_rate = (int64_t)BITS_PER_CHANNEL * wish->channels;
  context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  av_channel_layout_default(&context->ch_layout, wish->channels);
  assert_int_equal(avcodec_open2(context, codec, NULL), 0);
  return context;
}

static void set_sample(AVFrame *frame, int channel, int at, double value)
{
  int channels = frame->ch_layout.nb_channels;
  switch (frame->format) {
  case AV_SAMPLE_FMT_FLTP:
    ((float *)frame->extended_data[channel])[at] = (float)value;
    break;
  case AV_SAMPLE_FMT_S16P:
    ((int16_t *)frame->extended_data[channel])[at] = (int16_t)(value * INT16_MAX);
    break;
  case AV_SAMPLE_FMT_S32P:
    ((int32_t *)frame->extended_data[channel])[at] = (int32_t)(value * INT32_MAX);
    break;
  case AV_SAMPLE_FMT_S16:
    ((int16_t *)frame->extended_data[0])[at * channels + channel] = (int16_t)(value * INT16_MAX);
    break;
  default:
    fail_msg("sample format %d", frame->format);
  }
}

static void fill(AVFrame *frame, const struct sound_wish *wish, int64_t from)
{
  for (int i = 0; i < frame->nb_samples; i++) {
    double phase = 2 * M_PI * wish->tone_hz * (double)(from + i) / wish->rate_hz;
    for (int channel = 0; channel < wish->channels; channel++) {
      int is_silent = wish->is_left_only && channel > 0;
      set_sample(frame, channel, i, is_silent ? 0 : AMPLITUDE * sin(phase));
    }
  }
}

static void take_frames(AVCodecContext *context, AVPacket *packet, const struct sound_wish *wish,
                        struct sound *sound)
{
  while (sound->n_frames < wish->n_frames && avcodec_receive_packet(context, packet) == 0) {
    struct sound_frame *frame = &sound->frames[sound->n_frames++];
    frame->bytes = malloc((size_t)packet->size);
    assert_non_null(frame->bytes);
    memcpy(frame->bytes, packet->data, (size_t)packet->size);
    frame->size = (size_t)packet->size;
    av_packet_unref(packet);
  }
}

static void make_frames(AVCodecContext *context, const struct sound_wish *wish, struct sound *sound)
{
  AVPacket *packet = av_packet_alloc();
  AVFrame *frame = av_frame_alloc();
  assert_true(packet != NULL && frame != NULL);
  for (int64_t at = 0; sound->n_frames < wish->n_frames; at += context->frame_size) {
    frame->nb_samples = context->frame_size;
    frame->format = context->sample_fmt;
    frame->sample_rate = wish->rate_hz;
    frame->pts = at;
    assert_int_equal(av_channel_layout_copy(&frame->ch_layout, &context->ch_layout), 0);
    assert_int_equal(av_frame_get_buffer(frame, 0), 0);
    fill(frame, wish, at);
    assert_int_equal(avcodec_send_frame(context, frame), 0);
    av_frame_unref(frame);
    take_frames(context, packet, wish, sound);
  }
  av_frame_free(&frame);
  av_packet_free(&packet);
}

void sound_encode(struct sound *sound, const struct sound_wish *wish)
{
  assert_in_range(wish->n_frames, 1, SOUND_FRAMES_MAX);
  av_log_set_level(AV_LOG_ERROR);
  AVCodecContext *context = open_encoder(wish);
  *sound = (struct sound){.rate_hz = wish->rate_hz, .frame_samples = context->frame_size};
  if (strcmp(wish->encoder, "libmp3lame") != 0) {
    assert_in_range(context->extradata_size, 2, SOUND_CONFIG_MAX);
    sound->config_size = (size_t)context->extradata_size;
    memcpy(sound->config, context->extradata, sound->config_size);
  }
  make_frames(context, wish, sound);
  avcodec_free_context(&context);
}

void sound_fini(struct sound *sound)
{
  for (int i = 0; i < sound->n_frames; i++) {
    free(sound->frames[i].bytes);
  }
  *sound = (struct sound){0};
}

uint32_t sound_timestamp_ms(const struct sound *sound, int frame)
{
  return (uint32_t)((int64_t)frame * sound->frame_samples * 1000 / sound->rate_hz);
}

double sound_tone_share(const int16_t *samples, size_t n, double hz)
{
  double in_phase = 0, across = 0, total = 0;
  for (size_t i = 0; i < n; i++) {
    double phase = 2 * M_PI * hz * (double)i / VC_SAMPLE_RATE_HZ;
    in_phase += samples[i] * cos(phase);
    across += samples[i] * sin(phase);
    total += (double)samples[i] * samples[i];
  }
  return total > 0 ? 2 * (in_phase * in_phase + across * across) / ((double)n * total) : 0;
}

double sound_level(const int16_t *samples, size_t n)
{
  double total = 0;
  for (size_t i = 0; i < n; i++) {
    total += (double)samples[i] * samples[i];
  }
  return n > 0 ? sqrt(total / (double)n) : 0;
}
