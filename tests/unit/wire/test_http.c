#include <verbacast/wire/http.h>

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static char bytes[2 * VC_HTTP_HEAD_MAX];

static int parse(const char *text, enum vc_http_kind kind, struct vc_http_head *head)
{
  size_t n = strlen(text);
  memcpy(bytes, text, n + 1);
  return vc_http_parse_head(bytes, n, kind, head);
}

static void test_request(void **state)
{
  struct vc_http_head head;
  assert_int_equal(parse("POST /v2/live?a=1 HTTP/1.1\r\nHost: x\r\nX-Empty:\r\n"
                         "Content-Length: \t 12 \r\n\r\nbody",
                         VC_HTTP_REQUEST, &head),
                   0);
  assert_string_equal(head.method, "POST");
  assert_string_equal(head.target, "/v2/live?a=1");
  assert_int_equal(head.n_headers, 3);
  assert_string_equal(vc_http_find(&head, "host"), "x");
  assert_string_equal(vc_http_find(&head, "x-empty"), "");
  assert_string_equal(vc_http_find(&head, "content-length"), "12");
  assert_null(vc_http_find(&head, "absent"));
  assert_string_equal(bytes + head.size, "body");
}

static void test_response(void **state)
{
  struct vc_http_head head;
  assert_int_equal(parse("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
                         VC_HTTP_RESPONSE, &head),
                   0);
  assert_int_equal(head.status, 101);
  assert_string_equal(head.reason, "Switching Protocols");
  assert_int_equal(parse("HTTP/1.0 204\r\n\r\n", VC_HTTP_RESPONSE, &head), 0);
  assert_int_equal(head.status, 204);
  static const char *const bad[] = {"HTTP/2 200 OK\r\n\r\n",     "HTTP/1.1 20 OK\r\n\r\n",
                                    "HTTP/1.1 2000 OK\r\n\r\n",  "HTTP/1.1  200\r\n\r\n",
                                    "HTTP/1.1 200 a\nb\r\n\r\n", "\r\n\r\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(parse(bad[i], VC_HTTP_RESPONSE, &head), -1);
  }
}

static void test_malformed_requests(void **state)
{
  struct vc_http_head head;
  static const char *const bad[] = {
      "GET / HTTP/1.1\r\nno colon\r\n\r\n",
      "GET / HTTP/1.1\r\n: x\r\n\r\n",
      "GET / HTTP/1.1\r\na b: x\r\n\r\n",
      "GET / HTTP/1.1\r\na: x\ny\r\n\r\n",
      "GET / HTTP/1.1\r\n folded\r\n\r\n",
      "GET / HTTP/1.x\r\n\r\n",
      "GET / HTTP/1.12\r\n\r\n",
      "GET  HTTP/1.1\r\n\r\n",
      "GET /\r\n\r\n",
      "G@T\x01 / HTTP/1.1\r\n\r\n",
      "GET /\x7f HTTP/1.1\r\n\r\n",
      " / HTTP/1.1\r\n\r\n",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(parse(bad[i], VC_HTTP_REQUEST, &head), -1);
  }
  char with_nul[] = "GET / HTTP/1.1\r\na: x\0y\r\n\r\n";
  assert_int_equal(vc_http_parse_head(with_nul, sizeof with_nul - 1, VC_HTTP_REQUEST, &head), -1);
}

static void test_a_head_in_pieces_is_left_alone(void **state)
{
  static const char whole[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  struct vc_http_head head;
  for (size_t n = 0; n < sizeof whole - 1; n++) {
    memcpy(bytes, whole, sizeof whole);
    assert_int_equal(vc_http_parse_head(bytes, n, VC_HTTP_REQUEST, &head), 1);
    assert_memory_equal(bytes, whole, sizeof whole);
  }
}

static void test_bounds(void **state)
{
  struct vc_http_head head;
  memset(bytes, 'a', sizeof bytes);
  assert_int_equal(vc_http_parse_head(bytes, VC_HTTP_HEAD_MAX - 1, VC_HTTP_REQUEST, &head), 1);
  assert_int_equal(vc_http_parse_head(bytes, VC_HTTP_HEAD_MAX, VC_HTTP_REQUEST, &head), -1);
  for (size_t n_headers = VC_HTTP_HEADERS_MAX; n_headers <= VC_HTTP_HEADERS_MAX + 1; n_headers++) {
    size_t n = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\n");
    for (size_t i = 0; i < n_headers; i++) {
      n += (size_t)sprintf(bytes + n, "a%zu: b\r\n", i);
    }
    n += (size_t)sprintf(bytes + n, "\r\n");
    assert_int_equal(vc_http_parse_head(bytes, n, VC_HTTP_REQUEST, &head),
                     n_headers > VC_HTTP_HEADERS_MAX ? -1 : 0);
  }
}

static void test_tokens(void **state)
{
  struct vc_http_head head;
  assert_int_equal(parse("GET / HTTP/1.1\r\nConnection: keep-alive, UpGrade\r\n"
                         "Connection: x\r\n\r\n",
                         VC_HTTP_REQUEST, &head),
                   0);
  assert_true(vc_http_has_token(&head, "connection", "upgrade"));
  assert_true(vc_http_has_token(&head, "connection", "x"));
  assert_false(vc_http_has_token(&head, "connection", "up"));
  assert_false(vc_http_has_token(&head, "connection", "upgrade2"));
  assert_false(vc_http_has_token(&head, "other", "x"));
}

static int length_of(const char *headers, uint64_t *length)
{
  char text[256];
  struct vc_http_head head;
  snprintf(text, sizeof text, "GET / HTTP/1.1\r\n%s\r\n", headers);
  assert_int_equal(parse(text, VC_HTTP_REQUEST, &head), 0);
  return vc_http_content_length(&head, length);
}

static void test_content_length(void **state)
{
  uint64_t length;
  assert_int_equal(length_of("", &length), 1);
  assert_int_equal(length_of("Content-Length: 7\r\nContent-Length: 7\r\n", &length), 0);
  assert_int_equal(length, 7);
  assert_int_equal(length_of("Content-Length: 7\r\nContent-Length: 8\r\n", &length), -1);
  static const char *const bad[] = {"", "-1", "+1", "0x10", "1,1", "1 1", "9999999999999999"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[64];
    snprintf(text, sizeof text, "Content-Length: %s\r\n", bad[i]);
    assert_int_equal(length_of(text, &length), -1);
  }
}

static void test_urls(void **state)
{
  struct vc_url url;
  assert_int_equal(
      vc_url_parse("HTTPS://us%65r:p%40ss@Api.Example.COM:8443/v2/live?a=b%20c#part", &url), 0);
  assert_string_equal(url.scheme, "https");
  assert_string_equal(url.user, "user");
  assert_string_equal(url.password, "p@ss");
  assert_string_equal(url.host, "api.example.com");
  assert_int_equal(url.port, 8443);
  assert_string_equal(url.path, "/v2/live");
  assert_string_equal(url.query, "a=b%20c");
  assert_int_equal(vc_url_parse("redis://[2001:db8::1]/2", &url), 0);
  assert_string_equal(url.host, "2001:db8::1");
  assert_int_equal(url.port, 0);
  assert_int_equal(vc_url_parse("ws://host?token=x", &url), 0);
  assert_string_equal(url.path, "/");
  assert_string_equal(url.query, "token=x");
}

static void test_malformed_urls(void **state)
{
  struct vc_url url;
  static const char *const bad[] = {"",
                                    "host",
                                    "http:/host",
                                    "://host",
                                    "http://ho st/",
                                    "http://[::1",
                                    "http://[::1]x/",
                                    "http://[host]/",
                                    "http://h:0/",
                                    "http://h:65536/",
                                    "http://h:1a/",
                                    "http://h:/",
                                    "http://%zz@host/",
                                    "http://a\nb/",
                                    "1http://host/",
                                    "ht tp://h",
                                    "http://u%00@h/",
                                    "http://h\x7f/"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_url_parse(bad[i], &url), -1);
  }
  char long_url[VC_URL_MAX + 64] = "http://host/";
  memset(long_url + strlen(long_url), 'a', VC_URL_MAX);
  assert_int_equal(vc_url_parse(long_url, &url), -1);
}

static void test_queries(void **state)
{
  char value[8];
  static const char query[] = "since=1.2&token=a%2Fb&empty=&bare&long=123456789&bad=%4";
  assert_int_equal(vc_query_find(query, "since", value, sizeof value), 1);
  assert_string_equal(value, "1.2");
  assert_int_equal(vc_query_find(query, "token", value, sizeof value), 1);
  assert_string_equal(value, "a/b");
  assert_int_equal(vc_query_find(query, "empty", value, sizeof value), 1);
  assert_string_equal(value, "");
  assert_int_equal(vc_query_find(query, "bare", value, sizeof value), 1);
  assert_string_equal(value, "");
  assert_int_equal(vc_query_find(query, "long", value, sizeof value), -1);
  assert_int_equal(vc_query_find(query, "bad", value, sizeof value), -1);
  assert_int_equal(vc_query_find(query, "sinc", value, sizeof value), 0);
  assert_int_equal(vc_query_find("", "a", value, sizeof value), 0);
}

static void test_percent_decoding(void **state)
{
  char into[8];
  assert_int_equal(vc_percent_decode("a+%C3%a9", 8, into, sizeof into), 4);
  assert_string_equal(into, "a+\xc3\xa9");
  assert_int_equal(vc_percent_decode("%00", 3, into, sizeof into), -1);
  assert_int_equal(vc_percent_decode("%4", 2, into, sizeof into), -1);
  assert_int_equal(vc_percent_decode("%", 1, into, sizeof into), -1);
  assert_int_equal(vc_percent_decode("%g1", 3, into, sizeof into), -1);
  assert_int_equal(vc_percent_decode("1234567", 7, into, sizeof into), 7);
  assert_int_equal(vc_percent_decode("12345678", 8, into, sizeof into), -1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_request),
      cmocka_unit_test(test_response),
      cmocka_unit_test(test_malformed_requests),
      cmocka_unit_test(test_a_head_in_pieces_is_left_alone),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_tokens),
      cmocka_unit_test(test_content_length),
      cmocka_unit_test(test_urls),
      cmocka_unit_test(test_malformed_urls),
      cmocka_unit_test(test_queries),
      cmocka_unit_test(test_percent_decoding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
