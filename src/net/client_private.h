// What client.c (libcurl's multi, POST) and client_socket.c (WebSocket) share.
#pragma once

#include <verbacast/net/client.h>

#include <curl/curl.h>
#include <stdint.h>

enum transfer_kind { TRANSFER_POST, TRANSFER_SOCKET };

// What libcurl's private pointer of every easy handle points to.
struct transfer {
  enum transfer_kind kind;
  struct vc_client *client;
  struct transfer *next, *prev; // in vc_client.transfers
  CURL *easy;                   // in the multi
  enum vc_scope scope;
  int is_forbidden; // the scope kept it from an address
  int is_short;     // of memory or descriptors: why it failed, if it did
  int is_starved;   // one of its descriptors cannot be watched: to be ended
};

struct vc_client {
  /* set by create */
  struct vc_worker *worker;
  char *ca_file;
  char user_agent[64];
  struct vc_watch timer; // a timerfd: libcurl's timer, and sockets to be served again
  /* the worker's thread */
  CURLM *multi;         // NULL: to be made anew
  uint64_t curl_due_ns; // when libcurl wants to be called, by the system's clock; 0: not
  int is_rung;          // the timer is to be served at once
  struct transfer *transfers;
  struct vc_socket *hungry; // to be served at once
  int is_starved;           // one of the transfers is
  int is_broken;            // the multi failed: all transfers are to be ended
  uint8_t random[256];      // for keys and masks
  size_t n_random;          // of which are unused
  uint8_t read_buffer[16384];
};

// Makes the easy handle with what all transfers have in common. Returns 0 or -1.
int transfer_init(struct transfer *transfer, struct vc_client *client);
// Puts it into the multi. Returns 0 or -1 (the handle stays the transfer's).
int transfer_start(struct transfer *transfer);
void transfer_fini(struct transfer *transfer);
enum vc_trouble transfer_trouble(const struct transfer *transfer, CURLcode code);

void client_random(struct vc_client *client, uint8_t *into, size_t size);
void client_ring(struct vc_client *client); // hungry and starved are looked after at once

// client_socket.c, called by client.c.
struct vc_socket *socket_of(struct transfer *transfer);
void socket_connected(struct vc_socket *socket, CURLcode code);
void socket_fail(struct vc_socket *socket, enum vc_trouble trouble);
void socket_serve_hungry(struct vc_client *client);
