#include "rtmp.h"

#include <string.h>

enum sound_format { MP3 = 2, EX_HEADER = 9, AAC = 10, MP3_8K = 14 };
enum ex_packet { SEQUENCE_START = 0, CODED_FRAMES = 1 };

static enum rtmp_audio_codec codec_of_fourcc(const uint8_t *fourcc)
{
  static const struct {
    const char *fourcc;
    enum rtmp_audio_codec codec;
  } known[] = {{"mp4a", RTMP_CODEC_AAC}, {".mp3", RTMP_CODEC_MP3}, {"Opus", RTMP_CODEC_OPUS}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (memcmp(fourcc, known[i].fourcc, 4) == 0) {
      return known[i].codec;
    }
  }
  return RTMP_CODEC_OTHER;
}

// Enhanced RTMP: the low four bits are a packet type, a FourCC follows. Multitrack and the rest are
// other tracks or facts that a mono transcript has no use for.
static int parse_enhanced(const uint8_t *payload, size_t size, struct rtmp_audio_tag *tag)
{
  int packet = payload[0] & 0x0f;
  if (size < 5) {
    return -1;
  }
  tag->codec = codec_of_fourcc(payload + 1);
  tag->data = payload + 5;
  tag->size = size - 5;
  tag->kind = tag->codec == RTMP_CODEC_OTHER || tag->size == 0 ? RTMP_AUDIO_IGNORED
              : packet == SEQUENCE_START                       ? RTMP_AUDIO_CONFIG
              : packet == CODED_FRAMES                         ? RTMP_AUDIO_FRAME
                                                               : RTMP_AUDIO_IGNORED;
  return 0;
}

int rtmp_audio_parse(const uint8_t *payload, size_t size, struct rtmp_audio_tag *tag)
{
  static const uint32_t rates_hz[] = {5512, 11025, 22050, 44100};
  *tag = (struct rtmp_audio_tag){.kind = RTMP_AUDIO_IGNORED, .codec = RTMP_CODEC_OTHER};
  if (size < 1) {
    return -1;
  }
  int format = payload[0] >> 4;
  if (format == EX_HEADER) {
    return parse_enhanced(payload, size, tag);
  }
  tag->sample_rate_hz = format == MP3_8K ? 8000 : rates_hz[payload[0] >> 2 & 3];
  tag->channels = (payload[0] & 1) + 1U;
  if (format == AAC) {
    if (size < 2) {
      return -1;
    }
    tag->codec = RTMP_CODEC_AAC;
    tag->kind = payload[1] == 0 ? RTMP_AUDIO_CONFIG : RTMP_AUDIO_FRAME;
    tag->data = payload + 2;
    tag->size = size - 2;
  } else if (format == MP3 || format == MP3_8K) {
    tag->codec = RTMP_CODEC_MP3;
    tag->kind = RTMP_AUDIO_FRAME;
    tag->data = payload + 1;
    tag->size = size - 1;
  }
  if (tag->size == 0) {
    tag->kind = RTMP_AUDIO_IGNORED;
  }
  return 0;
}
