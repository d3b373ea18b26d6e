#include "rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <utlist.h>

// --- what the server says

static void note_text(const struct rtmp_amf_value *object, const char *key, char *into, size_t size)
{
  struct rtmp_amf_value value;
  if (rtmp_amf_find(object, key, &value) == 1 && value.kind == RTMP_AMF_STRING) {
    snprintf(into, size, "%.*s", (int)value.size, value.string);
  }
}

static void note_command(struct publisher *publisher, const struct rtmp_message *message)
{
  struct rtmp_amf amf = {message->payload, message->payload + message->size};
  struct rtmp_amf_value name, value;
  assert_int_equal(rtmp_amf_next(&amf, &name), 1);
  assert_int_equal(name.kind, RTMP_AMF_STRING);
  publisher->n_answers += name.size > 0 && name.string[0] == '_';
  while (rtmp_amf_next(&amf, &value) == 1) {
    note_text(&value, "code", publisher->code, sizeof publisher->code);
    note_text(&value, "level", publisher->level, sizeof publisher->level);
  }
}

static void note(struct publisher *publisher, const struct rtmp_message *message)
{
  if (message->type == RTMP_COMMAND_AMF0) {
    note_command(publisher, message);
  } else if (message->type == RTMP_USER_CONTROL && message->payload[1] == 7) {
    publisher->n_pongs++;
  } else if (message->type == RTMP_ACKNOWLEDGEMENT) {
    publisher->n_acknowledgements++;
  }
}

static void parse(struct publisher *publisher)
{
  struct rtmp_bytes *rest = &publisher->rest;
  size_t at = 0, used;
  if (publisher->n_handshake < RTMP_S0S1S2_SIZE) {
    at = RTMP_S0S1S2_SIZE - publisher->n_handshake;
    at = at < rest->size ? at : rest->size;
    publisher->n_handshake += at;
  }
  struct rtmp_message message;
  int status;
  while ((status = rtmp_reader_next(&publisher->reader, rest->at + at, rest->size - at, &used,
                                    &message)) == 1) {
    at += used;
    note(publisher, &message);
  }
  assert_int_equal(status, 0);
  at += used;
  rest->size -= at;
  memmove(rest->at, rest->at + at, rest->size);
}

void publisher_read(struct publisher *publisher)
{
  uint8_t bytes[4096];
  ssize_t n = 0;
  while (publisher->reads && !publisher->is_closed &&
         (n = recv(publisher->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
    rtmp_bytes_add(&publisher->rest, bytes, (size_t)n);
    parse(publisher);
  }
  publisher->was_reset |= publisher->reads && n < 0 && errno == ECONNRESET;
  publisher->is_closed |=
      publisher->reads && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR));
}

// --- what the publisher says

void publisher_open(struct publisher *publisher, struct rig *rig, const char *flash_version)
{
  *publisher = (struct publisher){.rig = rig, .flash_version = flash_version, .reads = 1};
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons(rig->bound.port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  publisher->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(publisher->fd >= 0);
  assert_int_equal(connect(publisher->fd, (struct sockaddr *)&to, sizeof to), 0);
  rtmp_reader_init(&publisher->reader, 65536, 65536);
  DL_APPEND(rig->publishers, publisher);
}

void publisher_close(struct publisher *publisher)
{
  DL_DELETE(publisher->rig->publishers, publisher);
  close(publisher->fd);
  rtmp_reader_fini(&publisher->reader);
  rtmp_bytes_fini(&publisher->rest);
}

void publisher_write(struct publisher *publisher, const void *bytes, size_t size)
{
  const uint8_t *at = bytes;
  for (int turns = 0; size > 0 && turns < RIG_PATIENCE; turns++) {
    ssize_t n = send(publisher->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) {
      return; // the server has closed it
    }
    at += n > 0 ? n : 0;
    size -= n > 0 ? (size_t)n : 0;
    if (size > 0) {
      rig_turn(publisher->rig);
    }
  }
  assert_int_equal(size, 0);
}

void publisher_shake_hands(struct publisher *publisher)
{
  uint8_t random[RTMP_HANDSHAKE_SIZE], c0c1[RTMP_C0C1_SIZE];
  memset(random, 7, sizeof random);
  rtmp_handshake_begin(random, c0c1);
  publisher_write(publisher, c0c1, sizeof c0c1);
  publisher_write(publisher, random, sizeof random);
}

static void write_message(struct publisher *publisher, uint8_t type, uint32_t timestamp_ms,
                          struct rtmp_bytes *payload)
{
  struct rtmp_bytes out = {0};
  struct rtmp_message message = {.type = type,
                                 .stream_id = 1,
                                 .timestamp_ms = timestamp_ms,
                                 .payload = payload->at,
                                 .size = payload->size};
  rtmp_write(&out, 128, 4, &message);
  publisher_write(publisher, out.at, out.size);
  rtmp_bytes_fini(&out);
  rtmp_bytes_fini(payload);
}

static void begin_command(struct rtmp_bytes *body, const char *name)
{
  rtmp_amf_write_string(body, name);
  rtmp_amf_write_number(body, 3);
}

void publisher_connect(struct publisher *publisher, const char *app)
{
  struct rtmp_bytes body = {0};
  begin_command(&body, "connect");
  rtmp_amf_begin_object(&body);
  rtmp_amf_write_key(&body, "app");
  rtmp_amf_write_string(&body, app);
  rtmp_amf_write_key(&body, "flashVer");
  rtmp_amf_write_string(&body, publisher->flash_version);
  rtmp_amf_write_key(&body, "tcUrl");
  rtmp_amf_write_string(&body, "rtmp://127.0.0.1/live");
  rtmp_amf_end_object(&body);
  write_message(publisher, RTMP_COMMAND_AMF0, 0, &body);
}

void publisher_publish(struct publisher *publisher, const char *name)
{
  struct rtmp_bytes body = {0};
  begin_command(&body, "publish");
  rtmp_amf_write_null(&body);
  rtmp_amf_write_string(&body, name);
  rtmp_amf_write_string(&body, "live");
  write_message(publisher, RTMP_COMMAND_AMF0, 0, &body);
}

void publisher_say(struct publisher *publisher, const char *command)
{
  struct rtmp_bytes body = {0};
  begin_command(&body, command);
  rtmp_amf_write_null(&body);
  write_message(publisher, RTMP_COMMAND_AMF0, 0, &body);
}

void publisher_ping(struct publisher *publisher)
{
  struct rtmp_bytes out = {0};
  rtmp_write_user_control(&out, 6, 1);
  publisher_write(publisher, out.at, out.size);
  rtmp_bytes_fini(&out);
}

void publisher_send_audio(struct publisher *publisher, uint32_t timestamp_ms, const char *control,
                          uint8_t fill, size_t size)
{
  struct rtmp_bytes body = {0};
  uint8_t *frame = malloc(size + 1);
  assert_non_null(frame);
  memset(frame, fill, size);
  rtmp_bytes_add(&body, control, control[0] == '\xaf' ? 2 : strlen(control));
  rtmp_bytes_add(&body, frame, size);
  free(frame);
  write_message(publisher, RTMP_AUDIO, timestamp_ms, &body);
}

void publisher_send_frame(struct publisher *publisher, uint32_t timestamp_ms)
{
  publisher_send_audio(publisher, timestamp_ms, "\xaf\1", 0x21, 100);
}

void publisher_start(struct publisher *publisher, struct rig *rig, const char *flash_version,
                     const char *name)
{
  publisher_open(publisher, rig, flash_version);
  publisher_shake_hands(publisher);
  publisher_connect(publisher, "live");
  publisher_say(publisher, "createStream");
  AWAIT(rig, publisher->n_answers == 2 || publisher->is_closed);
  publisher->code[0] = 0;
  publisher_publish(publisher, name);
  AWAIT(rig, publisher->code[0] != 0 || publisher->is_closed);
}
