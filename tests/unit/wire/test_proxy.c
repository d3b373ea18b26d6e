#include <verbacast/wire/proxy.h>

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4 "\xc0\0\2\1\x0a\0\0\1\x12\x34\x07\x91" // 192.0.2.1:4660 to 10.0.0.1:1937

static struct vc_address client;

// What it makes of the bytes, with the address of the proxy for a client that it does not tell.
static int parse(const void *bytes, size_t size)
{
  client = (struct vc_address){.n_bytes = 4, .bytes = {127, 0, 0, 9}, .port = 9};
  return vc_proxy_parse(bytes, size, &client);
}

static const char *shown(void)
{
  static char text[VC_ADDRESS_TEXT_MAX];
  vc_address_print_port(&client, text);
  return text;
}

// That the header is read whole with something behind it, and that no part of it is enough.
static void check_header(const void *header, size_t size, const char *address)
{
  uint8_t bytes[VC_PROXY_HEADER_MAX + 8] = {0};
  memcpy(bytes, header, size);
  bytes[size] = 3; // RTMP's first
  for (size_t i = 0; i < size; i++) {
    assert_int_equal(parse(bytes, i), 0);
    assert_string_equal(shown(), "127.0.0.9:9");
  }
  assert_int_equal(parse(bytes, size), size);
  assert_int_equal(parse(bytes, size + 8), size);
  assert_string_equal(shown(), address);
}
#define CHECK_HEADER(header, address) check_header(header, sizeof(header) - 1, address)

static void check_wrong(const void *bytes, size_t size)
{
  assert_int_equal(parse(bytes, size), -1);
  assert_string_equal(shown(), "127.0.0.9:9");
}
#define CHECK_WRONG(bytes) check_wrong(bytes, sizeof(bytes) - 1)

static void test_v2(void **state)
{
  CHECK_HEADER(SIGNATURE "\x21\x11\0\x0c" IPV4, "192.0.2.1:4660");
  CHECK_HEADER(SIGNATURE "\x21\x21\0\x24"
                         "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                         "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
                         "\x12\x34\x07\x91",
               "[2001:db8::1]:4660");
  CHECK_HEADER(SIGNATURE "\x21\x21\0\x24"
                         "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1"
                         "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\1"
                         "\x12\x34\x07\x91",
               "192.0.2.1:4660");
}

// What stands behind the addresses, whether it is well made or not.
static void test_v2_fields_are_passed_over(void **state)
{
  CHECK_HEADER(SIGNATURE "\x21\x11\0\x12" IPV4 "\4\0\3abc", "192.0.2.1:4660");
  CHECK_HEADER(SIGNATURE "\x21\x11\0\x0d" IPV4 "\4", "192.0.2.1:4660");
}

// A balancer's own health check, and clients that have no address of the Internet.
static void test_v2_without_a_client(void **state)
{
  CHECK_HEADER(SIGNATURE "\x20\0\0\0", "127.0.0.9:9");
  CHECK_HEADER(SIGNATURE "\x20\x11\0\x0c" IPV4, "127.0.0.9:9");
  CHECK_HEADER(SIGNATURE "\x20\x11\0\0", "127.0.0.9:9");
  CHECK_HEADER(SIGNATURE "\x21\0\0\0", "127.0.0.9:9");
  CHECK_HEADER(SIGNATURE "\x21\0\0\4\4\0\1a", "127.0.0.9:9");
  CHECK_HEADER(SIGNATURE "\x21\x12\0\x0c" IPV4, "127.0.0.9:9"); // UDP
  char of_unix[16 + 216] = SIGNATURE "\x21\x31\0\xd8/run/x";
  check_header(of_unix, sizeof of_unix, "127.0.0.9:9");
}

static void test_v2_malformed(void **state)
{
  CHECK_WRONG(SIGNATURE "\x11\x11\0\x0c" IPV4); // version 1 in it
  CHECK_WRONG(SIGNATURE "\x31\x11\0\x0c" IPV4);
  CHECK_WRONG(SIGNATURE "\x22\x11\0\x0c" IPV4); // neither LOCAL nor PROXY
  CHECK_WRONG(SIGNATURE "\x21\x11\0\x0b" IPV4); // an address cut short
  CHECK_WRONG(SIGNATURE "\x21\x21\0\x0c" IPV4);
  CHECK_WRONG("\r\n\r\n\0\r\nQUIT\r");
}

static void test_v2_bound(void **state)
{
  static uint8_t whole[VC_PROXY_HEADER_MAX] = SIGNATURE "\x21\x11\x08\0" IPV4;
  check_header(whole, sizeof whole, "192.0.2.1:4660");
  CHECK_WRONG(SIGNATURE "\x21\x11\x08\1"); // refused before it has come
  CHECK_WRONG(SIGNATURE "\x21\x11\xff\xff");
}

static void test_v1(void **state)
{
  CHECK_HEADER("PROXY TCP4 192.0.2.1 10.0.0.1 4660 1937\r\n", "192.0.2.1:4660");
  CHECK_HEADER("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", "255.255.255.255:65535");
  CHECK_HEADER("PROXY TCP6 2001:db8::1 ::1 4660 1937\r\n", "[2001:db8::1]:4660");
  CHECK_HEADER("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 4660 1937\r\n", "192.0.2.1:4660");
  CHECK_HEADER("PROXY UNKNOWN\r\n", "127.0.0.9:9");
  CHECK_HEADER("PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n", "127.0.0.9:9");
}

static void test_v1_malformed(void **state)
{
  static const char *const bad[] = {
      "PROXY\r\n",
      "PROXY \r\n",
      "proxy TCP4 192.0.2.1 10.0.0.1 4660 1937\r\n",
      "PROXY UDP4 192.0.2.1 10.0.0.1 4660 1937\r\n",
      "PROXY TCP44 192.0.2.1 10.0.0.1 4660 1937\r\n",
      "PROXY TCP4  192.0.2.1 10.0.0.1 4660 1937\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 1937 \r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 1937 x\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 \r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 65536 1937\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 04660 1937\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 -1 1937\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 +1\r\n",
      "PROXY TCP4 192.0.2.256 10.0.0.1 4660 1937\r\n",
      "PROXY TCP4 192.0.2.1 host 4660 1937\r\n",
      "PROXY TCP4 2001:db8::1 ::1 4660 1937\r\n",
      "PROXY TCP6 192.0.2.1 10.0.0.1 4660 1937\r\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 1937\n",
      "PROXY TCP4 192.0.2.1 10.0.0.1 4660 19\r37\r\n",
      "GET / HTTP/1.1\r\n",
      "P\r\n",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_wrong(bad[i], strlen(bad[i]));
  }
  CHECK_WRONG("PROXY TCP4 192.0.2.1\0 10.0.0.1 4660 1937\r\n");
  CHECK_WRONG("\3");
}

static void test_v1_bound(void **state)
{
  char line[128];
  snprintf(line, sizeof line, "PROXY UNKNOWN %0*d\r\n", 107 - 16, 1);
  check_header(line, 107, "127.0.0.9:9");
  snprintf(line, sizeof line, "PROXY UNKNOWN %0*d\r\n", 108 - 16, 1);
  check_wrong(line, 108);
  assert_int_equal(parse(line, 106), 0);
  check_wrong(line, 107); // no line of a hundred and seven bytes ends later
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_v2),
      cmocka_unit_test(test_v2_fields_are_passed_over),
      cmocka_unit_test(test_v2_without_a_client),
      cmocka_unit_test(test_v2_malformed),
      cmocka_unit_test(test_v2_bound),
      cmocka_unit_test(test_v1),
      cmocka_unit_test(test_v1_malformed),
      cmocka_unit_test(test_v1_bound),
  };
  return cmocka_run_group_tests_name("wire/proxy", tests, NULL, NULL);
}
