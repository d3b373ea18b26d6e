// One stream's decoder: compressed frames in, PCM16 16 kHz mono out.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/flow/packet.h>

struct decoder;

struct pcm {
  int16_t *samples; // grows with what is decoded, kept from call to call
  size_t n, capacity;
};
void pcm_fini(struct pcm *pcm);

struct decoder *decoder_create(void);
void decoder_destroy(struct decoder **decoder);

// `config`: AudioSpecificConfig (AAC), OpusHead (Opus), nothing (MP3). Not for PCM.
// Returns: 0, or 1: libavcodec does not take it.
int decoder_open(struct decoder *decoder, enum vc_codec codec, const uint8_t *config, size_t size);
int decoder_is_open(const struct decoder *decoder, enum vc_codec codec);
// Appends what the frame yields. Returns: 0, 1 the frame is corrupt (it was passed over), -1
// memory.
int decoder_decode(struct decoder *decoder, const uint8_t *frame, size_t size, struct pcm *pcm);
// PCM16 of that rate and so many channels, without further ado. Returns: as decoder_decode.
int decoder_resample(struct decoder *decoder, const struct vc_packet *packet, struct pcm *pcm);
// Appends what the resampler still holds.
int decoder_flush(struct decoder *decoder, struct pcm *pcm);
// Duration of the last frame, 0 unknown.
uint64_t decoder_frame_ns(const struct decoder *decoder);
// Once a process: FFmpeg's own lines go to the log, at debug.
void decoder_route_log(void);
