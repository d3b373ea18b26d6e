// The bound of an ingest: libavcodec and libswresample called in a loop for as many streams, which
// take turns by frames, and nothing else: no network, no clock, no chunks.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libavcodec/avcodec.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

#include "bench.h"

#define RATE_HZ 16000
#define FILTER_TAPS 16 // as the node has it
#define CONFIG_SIZE 2
#define SAMPLES_MAX 4096

struct stream {
  AVCodecContext *decoder;
  SwrContext *resampler;
};

static void begin_stream(struct stream *stream, const struct sound *sound)
{
  const AVCodec *codec = avcodec_find_decoder(AV_CODEC_ID_AAC);
  stream->decoder = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
  if (stream->decoder == NULL) {
    die("libavcodec decodes no AAC");
  }
  stream->decoder->thread_count = 1;
  stream->decoder->extradata = av_mallocz(CONFIG_SIZE + AV_INPUT_BUFFER_PADDING_SIZE);
  if (stream->decoder->extradata == NULL) {
    die("out of memory");
  }
  memcpy(stream->decoder->extradata, sound->config, CONFIG_SIZE);
  stream->decoder->extradata_size = CONFIG_SIZE;
  if (avcodec_open2(stream->decoder, codec, NULL) < 0) {
    die("libavcodec does not open its AAC decoder");
  }
}

static void begin_resampler(struct stream *stream, AVFrame *frame)
{
  AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
  if (swr_alloc_set_opts2(&stream->resampler, &mono, AV_SAMPLE_FMT_S16, RATE_HZ, &frame->ch_layout,
                          frame->format, frame->sample_rate, 0, NULL) < 0 ||
      av_opt_set_int(stream->resampler, "filter_size", FILTER_TAPS, 0) < 0 ||
      swr_init(stream->resampler) < 0) {
    die("libswresample does not open");
  }
}

static void decode(struct stream *stream, const struct sound_frame *from, AVPacket *packet,
                   AVFrame *frame)
{
  static int16_t samples[SAMPLES_MAX];
  uint8_t *to = (uint8_t *)samples;
  if (av_new_packet(packet, (int)from->size) < 0) {
    die("out of memory");
  }
  memcpy(packet->data, from->at, from->size);
  if (avcodec_send_packet(stream->decoder, packet) < 0) {
    die("libavcodec does not take the sound");
  }
  av_packet_unref(packet);
  while (avcodec_receive_frame(stream->decoder, frame) >= 0) {
    if (stream->resampler == NULL) {
      begin_resampler(stream, frame);
    }
    swr_convert(stream->resampler, &to, SAMPLES_MAX, (const uint8_t **)frame->extended_data,
                frame->nb_samples);
    av_frame_unref(frame);
  }
}

static double thread_cpu_s(void)
{
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Of the main thread's arena, and what was too large for it.
static size_t allocated(void)
{
  struct mallinfo2 all = mallinfo2();
  return all.uordblks + all.hblkhd;
}

struct loop_cost decode_loop(const struct sound *sound, size_t n, double for_s)
{
  struct stream *streams = grow(NULL, n, sizeof *streams);
  AVPacket *packet = av_packet_alloc();
  AVFrame *frame = av_frame_alloc();
  if (packet == NULL || frame == NULL) {
    die("out of memory");
  }
  size_t before = allocated();
  for (size_t i = 0; i < n; i++) {
    streams[i] = (struct stream){0};
    begin_stream(&streams[i], sound);
    decode(&streams[i], &sound->frames[i % sound->n_frames], packet, frame);
  }
  double begin_s = thread_cpu_s(), used_s = 0;
  size_t n_frames = 0;
  while (used_s < for_s) {
    for (size_t i = 0; i < n; i++, n_frames++) {
      decode(&streams[i], &sound->frames[(n_frames / n + i) % sound->n_frames], packet, frame);
    }
    used_s = thread_cpu_s() - begin_s;
  }
  size_t bytes = allocated() - before;
  for (size_t i = 0; i < n; i++) {
    swr_free(&streams[i].resampler);
    avcodec_free_context(&streams[i].decoder);
  }
  av_packet_free(&packet);
  av_frame_free(&frame);
  free(streams);
  double sound_s = (double)n_frames * sound->frame_samples / sound->sample_rate_hz;
  return (struct loop_cost){.cpu_s = used_s / sound_s, .bytes = (double)bytes / (double)n};
}
