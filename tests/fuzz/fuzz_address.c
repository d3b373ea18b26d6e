// Addresses, networks and listeners from text: what is taken is printed, and read again as the
// same.
#include <verbacast/base/address.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  struct vc_address address, again;
  struct vc_networks networks;
  struct vc_error error;
  char printed[VC_ADDRESS_TEXT_MAX];
  if (vc_address_parse(text, &address) == 0) {
    vc_address_print(&address, printed);
    assert(vc_address_parse(printed, &again) == 0 && vc_address_equal(&address, &again));
  }
  if (vc_networks_parse(text, &networks, &error) == 0) {
    assert(networks.n <= VC_NETWORKS_MAX);
    for (size_t i = 0; i < networks.n; i++) {
      assert(vc_networks_have(&networks, &networks.rows[i].address));
    }
  }
  if (vc_listen_parse(text, &address, &error) == 0) {
    vc_address_print_port(&address, printed);
    assert(vc_listen_parse(printed, &again, &error) == 0 && again.port == address.port);
    assert(vc_address_equal(&address, &again));
  }
  free(text);
  return 0;
}
