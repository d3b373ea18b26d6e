#include <verbacast/base/address.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const char *printed(const char *text)
{
  static char out[VC_ADDRESS_TEXT_MAX];
  struct vc_address address;
  if (vc_address_parse(text, &address) != 0) {
    return "-";
  }
  vc_address_print(&address, out);
  return out;
}

static void test_text(void **state)
{
  assert_string_equal(printed("192.0.2.1"), "192.0.2.1");
  assert_string_equal(printed("2001:0DB8:0::1"), "2001:db8::1");
  assert_string_equal(printed("::ffff:192.0.2.1"), "192.0.2.1");
  const char *const bad[] = {"",          "localhost", "1.2.3", "1.2.3.4.5",
                             "1.2.3.256", "[::1]",     ":::",   " 1.2.3.4"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_string_equal(printed(bad[i]), "-");
  }
}

static void test_socket(void **state)
{
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1935)};
  struct vc_address address;
  char text[VC_ADDRESS_TEXT_MAX];
  inet_pton(AF_INET6, "::ffff:10.0.0.7", &in6.sin6_addr);
  vc_address_from_socket((const struct sockaddr *)(const void *)&in6, &address);
  vc_address_print_port(&address, text);
  assert_string_equal(text, "10.0.0.7:1935");
  inet_pton(AF_INET6, "::1", &in6.sin6_addr);
  vc_address_from_socket((const struct sockaddr *)(const void *)&in6, &address);
  vc_address_print_port(&address, text);
  assert_string_equal(text, "[::1]:1935");
  assert_true(vc_address_is_loopback(&address));
  struct sockaddr none = {.sa_family = AF_UNIX};
  vc_address_from_socket(&none, &address);
  vc_address_print(&address, text);
  assert_string_equal(text, "unknown");
  assert_false(vc_address_is_loopback(&address));
}

static int have(const char *list, const char *text)
{
  struct vc_networks networks;
  struct vc_address address;
  struct vc_error error;
  assert_int_equal(vc_networks_parse(list, &networks, &error), 0);
  assert_int_equal(vc_address_parse(text, &address), 0);
  return vc_networks_have(&networks, &address);
}

static void test_networks(void **state)
{
  const char *list = "10.0.0.0/8, 192.168.4.128/25,2001:db8::/33 203.0.113.7";
  assert_true(have(list, "10.255.0.1"));
  assert_false(have(list, "11.0.0.1"));
  assert_true(have(list, "192.168.4.200"));
  assert_false(have(list, "192.168.4.127"));
  assert_true(have(list, "2001:db8:7fff::1"));
  assert_false(have(list, "2001:db8:8000::1"));
  assert_true(have(list, "::ffff:203.0.113.7"));
  assert_false(have(list, "203.0.113.8"));
  assert_true(have("0.0.0.0/0", "8.8.8.8"));
  assert_false(have("0.0.0.0/0", "::1"));
  assert_false(have("", "127.0.0.1"));
}

static void test_bad_networks(void **state)
{
  const char *const bad[] = {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
                             "::/129",      "host",      "10.0.0.0/ 8"};
  struct vc_networks networks;
  struct vc_error error;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_networks_parse(bad[i], &networks, &error), -1);
    assert_non_null(strstr(error.text, "'"));
  }
  char many[(VC_NETWORKS_MAX + 1) * 8 + 1] = "";
  for (int i = 0; i <= VC_NETWORKS_MAX; i++) {
    strcat(many, "1.2.3.4 ");
  }
  assert_int_equal(vc_networks_parse(many, &networks, &error), -1);
}

static void test_listen_text(void **state)
{
  struct vc_address address;
  struct vc_error error;
  assert_int_equal(vc_listen_parse("localhost:1935", &address, &error), 0);
  assert_true(vc_address_is_loopback(&address));
  assert_int_equal(address.port, 1935);
  assert_int_equal(vc_listen_parse("*:65535", &address, &error), 0);
  assert_int_equal(address.bytes[0], 0);
  assert_int_equal(vc_listen_parse("[::1]:0", &address, &error), 0);
  assert_int_equal(address.n_bytes, 16);
  const char *const bad[] = {"",
                             ":",
                             ":80",
                             "80",
                             "localhost",
                             "localhost:",
                             "localhost: 80",
                             "localhost:+80",
                             "localhost:-1",
                             "localhost:65536",
                             "localhost:80x",
                             "example.org:80"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_listen_parse(bad[i], &address, &error), -1);
  }
}

static void test_listen(void **state)
{
  struct vc_address bound;
  struct vc_error error;
  char text[VC_ADDRESS_TEXT_MAX];
  int fd = vc_listen("127.0.0.1:0", 8, &bound, &error);
  assert_true(fd >= 0);
  assert_int_not_equal(bound.port, 0);
  vc_address_print_port(&bound, text);
  struct vc_address second;
  assert_int_equal(vc_listen(text, 8, &second, &error), -1);
  assert_non_null(strstr(error.text, text));
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_text),        cmocka_unit_test(test_socket),
      cmocka_unit_test(test_networks),    cmocka_unit_test(test_bad_networks),
      cmocka_unit_test(test_listen_text), cmocka_unit_test(test_listen),
  };
  return cmocka_run_group_tests_name("base/address", tests, NULL, NULL);
}
