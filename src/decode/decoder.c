#include "decoder.h"

#include <verbacast/base/clock.h>
#include <verbacast/base/log.h>
#include <verbacast/flow/chunk.h>

#include <libavcodec/avcodec.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER_TAPS 16 // a quarter less work than the default 32, inaudible to a recogniser
#define CONFIG_MAX 4096

struct decoder {
  enum vc_codec codec;
  AVCodecContext *context; // NULL: not open
  AVPacket *packet;
  AVFrame *frame;
  SwrContext *resampler; // NULL: made at the next frame
  int input_rate_hz;
  int input_format;
  AVChannelLayout input_layout;
  int is_raw; // its channels have no places
  uint64_t frame_ns;
};

void pcm_fini(struct pcm *pcm)
{
  free(pcm->samples);
  *pcm = (struct pcm){0};
}

static int pcm_reserve(struct pcm *pcm, size_t n)
{
  if (pcm->capacity - pcm->n >= n) {
    return 0;
  }
  size_t capacity = pcm->n + n + 1024;
  int16_t *samples = realloc(pcm->samples, capacity * sizeof *samples);
  if (samples == NULL) {
    return -1;
  }
  pcm->samples = samples;
  pcm->capacity = capacity;
  return 0;
}

struct decoder *decoder_create(void)
{
  struct decoder *decoder = calloc(1, sizeof *decoder);
  if (decoder == NULL) {
    return NULL;
  }
  decoder->packet = av_packet_alloc();
  decoder->frame = av_frame_alloc();
  if (decoder->packet == NULL || decoder->frame == NULL) {
    decoder_destroy(&decoder);
  }
  return decoder;
}

static void resampler_close(struct decoder *decoder)
{
  swr_free(&decoder->resampler);
  av_channel_layout_uninit(&decoder->input_layout);
}

void decoder_destroy(struct decoder **decoder)
{
  if (*decoder != NULL) {
    resampler_close(*decoder);
    avcodec_free_context(&(*decoder)->context);
    av_packet_free(&(*decoder)->packet);
    av_frame_free(&(*decoder)->frame);
    free(*decoder);
    *decoder = NULL;
  }
}

static const AVCodec *find_codec(enum vc_codec codec)
{
  static const char *const names[][2] = {{"aac", NULL}, {"mp3float", "mp3"}, {"libopus", "opus"}};
  const AVCodec *found = avcodec_find_decoder_by_name(names[codec][0]);
  return found == NULL && names[codec][1] != NULL ? avcodec_find_decoder_by_name(names[codec][1])
                                                  : found;
}

static int set_config(AVCodecContext *context, enum vc_codec codec, const uint8_t *config,
                      size_t size)
{
  if (size > CONFIG_MAX) {
    return -1;
  }
  if (size > 0) {
    context->extradata = av_mallocz(size + AV_INPUT_BUFFER_PADDING_SIZE);
    if (context->extradata == NULL) {
      return -1;
    }
    memcpy(context->extradata, config, size);
    context->extradata_size = (int)size;
  }
  if (codec == VC_CODEC_OPUS) {
    int channels = size > 9 && config[9] > 0 && config[9] <= 8 ? config[9] : 2;
    context->sample_rate = 48000;
    av_channel_layout_default(&context->ch_layout, channels);
  }
  return 0;
}

int decoder_open(struct decoder *decoder, enum vc_codec codec, const uint8_t *config, size_t size)
{
  resampler_close(decoder);
  avcodec_free_context(&decoder->context);
  decoder->frame_ns = 0;
  const AVCodec *found = find_codec(codec);
  AVCodecContext *context = found != NULL ? avcodec_alloc_context3(found) : NULL;
  if (context == NULL) {
    return 1;
  }
  context->thread_count = 1;
  context->flags |= AV_CODEC_FLAG_LOW_DELAY;
  if (set_config(context, codec, config, size) != 0 || avcodec_open2(context, found, NULL) < 0) {
    avcodec_free_context(&context);
    return 1;
  }
  decoder->context = context;
  decoder->codec = codec;
  return 0;
}

int decoder_is_open(const struct decoder *decoder, enum vc_codec codec)
{
  return decoder->context != NULL && decoder->codec == codec;
}

static int resampler_fits(const struct decoder *decoder)
{
  const AVFrame *frame = decoder->frame;
  return decoder->resampler != NULL && decoder->input_rate_hz == frame->sample_rate &&
         decoder->input_format == frame->format &&
         av_channel_layout_compare(&decoder->input_layout, &frame->ch_layout) == 0;
}

// By their layouts a bass channel would not be heard. Raw PCM may have a voice in any channel.
static int mix_evenly(struct decoder *decoder)
{
  double weights[VC_TRACK_CHANNELS_MAX];
  int n = decoder->input_layout.nb_channels;
  for (int i = 0; i < n; i++) {
    weights[i] = 1.0 / n;
  }
  return swr_set_matrix(decoder->resampler, weights, n);
}

static int resampler_open(struct decoder *decoder)
{
  const AVFrame *frame = decoder->frame;
  AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
  resampler_close(decoder);
  if (av_channel_layout_copy(&decoder->input_layout, &frame->ch_layout) < 0) {
    return -1;
  }
  if (decoder->input_layout.order == AV_CHANNEL_ORDER_UNSPEC) {
    av_channel_layout_default(&decoder->input_layout, frame->ch_layout.nb_channels);
  }
  if (swr_alloc_set_opts2(&decoder->resampler, &mono, AV_SAMPLE_FMT_S16, VC_SAMPLE_RATE_HZ,
                          &decoder->input_layout, frame->format, frame->sample_rate, 0, NULL) < 0 ||
      av_opt_set_int(decoder->resampler, "filter_size", FILTER_TAPS, 0) < 0 ||
      (decoder->is_raw && mix_evenly(decoder) < 0) || swr_init(decoder->resampler) < 0) {
    resampler_close(decoder);
    return -1;
  }
  av_channel_layout_uninit(&decoder->input_layout);
  av_channel_layout_copy(&decoder->input_layout, &frame->ch_layout);
  decoder->input_rate_hz = frame->sample_rate;
  decoder->input_format = frame->format;
  return 0;
}

static int convert(struct decoder *decoder, const uint8_t **input, int n_input, struct pcm *pcm)
{
  int room = swr_get_out_samples(decoder->resampler, n_input);
  if (room < 0 || pcm_reserve(pcm, (size_t)room) != 0) {
    return -1;
  }
  uint8_t *output = (uint8_t *)(pcm->samples + pcm->n);
  int n = swr_convert(decoder->resampler, &output, room, input, n_input);
  if (n < 0) {
    return 1;
  }
  pcm->n += (size_t)n;
  return 0;
}

static int resample(struct decoder *decoder, struct pcm *pcm)
{
  AVFrame *frame = decoder->frame;
  if (frame->sample_rate <= 0 || frame->nb_samples <= 0) {
    return 1;
  }
  if (!resampler_fits(decoder)) {
    // The old one's last samples belong before the new format's.
    if (decoder->resampler != NULL && decoder_flush(decoder, pcm) < 0) {
      return -1;
    }
    if (resampler_open(decoder) != 0) {
      return 1;
    }
  }
  decoder->frame_ns = (uint64_t)frame->nb_samples * VC_NS_PER_S / (uint64_t)frame->sample_rate;
  return convert(decoder, (const uint8_t **)frame->extended_data, frame->nb_samples, pcm);
}

int decoder_decode(struct decoder *decoder, const uint8_t *frame, size_t size, struct pcm *pcm)
{
  if (size == 0 || av_new_packet(decoder->packet, (int)size) < 0) {
    return size == 0 ? 1 : -1;
  }
  memcpy(decoder->packet->data, frame, size);
  int status = avcodec_send_packet(decoder->context, decoder->packet) < 0 ? 1 : 0;
  av_packet_unref(decoder->packet);
  while (status == 0) {
    int got = avcodec_receive_frame(decoder->context, decoder->frame);
    if (got == AVERROR(EAGAIN) || got == AVERROR_EOF) {
      break;
    }
    status = got < 0 ? 1 : resample(decoder, pcm);
    av_frame_unref(decoder->frame);
  }
  return status;
}

int decoder_resample(struct decoder *decoder, const struct vc_packet *packet, struct pcm *pcm)
{
  AVFrame *frame = decoder->frame;
  int channels = (int)packet->channels_hint;
  assert(channels <= VC_TRACK_CHANNELS_MAX);
  decoder->is_raw = 1;
  frame->format = AV_SAMPLE_FMT_S16;
  frame->sample_rate = (int)packet->sample_rate_hint_hz;
  frame->nb_samples = channels > 0 ? (int)(packet->data->size / 2 / packet->channels_hint) : 0;
  av_channel_layout_default(&frame->ch_layout, channels);
  frame->extended_data = frame->data;
  frame->data[0] = packet->data->data; // borrowed: there is no buffer to let go of
  int status = resample(decoder, pcm);
  av_frame_unref(frame);
  return status;
}

int decoder_flush(struct decoder *decoder, struct pcm *pcm)
{
  return decoder->resampler != NULL ? convert(decoder, NULL, 0, pcm) : 0;
}

uint64_t decoder_frame_ns(const struct decoder *decoder)
{
  return decoder->frame_ns;
}

static void log_line(void *context, int level, const char *format, va_list arguments)
{
  if (level > AV_LOG_WARNING || vc_log_level_get() < VC_LOG_DEBUG) {
    return;
  }
  char line[256];
  int prefix = 0;
  av_log_format_line2(context, level, format, arguments, line, sizeof line, &prefix);
  line[strcspn(line, "\r\n")] = '\0';
  vc_log(VC_LOG_DEBUG, VC_EVENT("decode.ffmpeg"), VC_STR("line", line));
}

void decoder_route_log(void)
{
  av_log_set_callback(log_line);
}
