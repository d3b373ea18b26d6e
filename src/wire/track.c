#include <verbacast/wire/track.h>

#include <verbacast/wire/json.h>

enum vc_track_text vc_track_parse(const char *text, size_t size)
{
  json_t *root = vc_json_parse(text, size, NULL);
  const json_t *muted = json_object_get(root, "muted");
  enum vc_track_text said = !json_is_object(root)  ? VC_TRACK_NONE
                            : json_is_true(muted)  ? VC_TRACK_MUTED
                            : json_is_false(muted) ? VC_TRACK_UNMUTED
                                                   : VC_TRACK_OTHER;
  json_decref(root);
  return said;
}
