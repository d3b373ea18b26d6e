// What clients post and send to verbacast-stt: each text is read as a request and as a message.
#include <verbacast/wire/gladia_server.h>
#include <verbacast/wire/json.h>

#include <openssl/evp.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_request(const char *text, size_t size)
{
  struct vc_gladia_request request;
  char why[160] = "";
  if (vc_gladia_parse_request(text, size, &request, why, sizeof why) != 0) {
    assert(why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL && request.metadata == NULL);
    return;
  }
  assert(request.sample_rate_hz == 8000 || request.sample_rate_hz == 16000);
  assert(request.endpointing_s >= 0.01 && request.endpointing_s <= 10);
  assert(request.max_utterance_s >= 5 && request.max_utterance_s <= 60);
  assert(request.n_languages <= VC_GLADIA_LANGUAGES_MAX);
  for (size_t i = 0; i < request.n_languages; i++) {
    assert(strlen(request.languages[i]) >= 2);
    assert(vc_utf8_is_valid(request.languages[i], strlen(request.languages[i])));
  }
  if (request.metadata != NULL) {
    json_t *metadata = vc_json_parse(request.metadata, strlen(request.metadata), NULL);
    assert(json_is_object(metadata));
    json_decref(metadata);
  }
  vc_gladia_request_fini(&request);
}

// Audio is what its base64 says, to the byte; only the bits that the last character has to spare
// may be anything.
static void check_audio(const char *text, size_t size,
                        const struct vc_gladia_client_message *message)
{
  json_t *root = vc_json_parse(text, size, NULL);
  const char *chunk = vc_json_string(json_object_get(root, "data"), "chunk", NULL);
  assert(chunk != NULL);
  size_t n = strlen(chunk);
  char *again = malloc(n + 5);
  assert(again != NULL);
  int written = EVP_EncodeBlock((unsigned char *)again, message->audio, (int)message->audio_size);
  assert((size_t)written == n);
  for (size_t i = 0; i < n; i++) {
    int may_differ = i + 1 < n ? chunk[i + 1] == '=' && chunk[i] != '=' : 0;
    assert(again[i] == chunk[i] || may_differ);
  }
  free(again);
  json_decref(root);
}

static void look_at_message(const char *text, size_t size)
{
  struct vc_gladia_client_message message;
  const char *why = NULL;
  int status = vc_gladia_parse_client(text, size, &message, &why);
  assert(status == 0 || (status == 1 && why != NULL && message.audio == NULL));
  if (status == 0 && message.kind == VC_GLADIA_CLIENT_AUDIO) {
    check_audio(text, size, &message);
  }
  free(message.audio);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  look_at_request((const char *)data, size);
  look_at_message((const char *)data, size);
  return 0;
}
