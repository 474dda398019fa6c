// A probe: does a page answer, with what it should contain?
//
// params: {"port": 8080, "path": "/healthz", "contains": "ok"}; only the port is needed.
//
// target/plugin/bindings/plugin.h has all names: witlet-plugin makes it from wit/.

#include "plugin.h"

#include <stdlib.h>

#include "json.h"

typedef exports_witlet_probe_probe_outcome_t outcome_t;
typedef exports_witlet_probe_probe_error_t error_t;

static bool fails(outcome_t *outcome, const char *message) {
  outcome->verdict = EXPORTS_WITLET_PROBE_PROBE_VERDICT_FAIL;
  plugin_string_dup(&outcome->message, message);
  return true;
}

static bool has(const uint8_t *body, size_t length, const char *part, size_t size) {
  if (size == 0) return true;
  for (size_t at = 0; at + size <= length; at++) {
    if (memcmp(body + at, part, size) == 0) return true;
  }
  return false;
}

static bool fails_with_status(outcome_t *outcome, unsigned status) {
  char text[] = "status 000";
  for (size_t digit = 9; digit > 6; digit--, status /= 10) text[digit] = (char)('0' + status % 10);
  return fails(outcome, text);
}

// True: the outcome is the answer. False: the error is.
bool exports_witlet_probe_probe_check(exports_witlet_probe_probe_borrow_pod_t pod,
                                      exports_witlet_probe_probe_borrow_container_t container, plugin_string_t *params,
                                      uint32_t timeout_ms, outcome_t *outcome, error_t *error) {
  (void)container;
  const char *json = (const char *)params->ptr, *path = "/", *contains = "";
  size_t path_size = 1, contains_size = 0;
  unsigned port = 0;
  if (!json_number(json, params->len, "port", &port) || port == 0 || port > 65535) {
    error->tag = WITLET_BASE_TYPES_ERROR_INVALID;
    plugin_string_dup(&error->val.invalid, "params: port is a number up to 65535");
    return false;
  }
  json_text(json, params->len, "path", &path, &path_size);
  json_text(json, params->len, "contains", &contains, &contains_size);

  witlet_probe_pod_net_http_request_t request = {
      .scheme = WITLET_PROBE_POD_NET_SCHEME_HTTP,
      .port = (uint16_t)port,
      .path = {(uint8_t *)path, path_size},
      .timeout_ms = timeout_ms,
      .body_limit = 65536,
  };
  witlet_probe_pod_net_http_reply_t reply;
  witlet_probe_pod_net_error_t failure;
  bool answered = witlet_probe_pod_net_http_get(pod, &request, &reply, &failure);
  if (!answered) {
    switch (failure.tag) {
      // It does not answer: that is what a probe is for. Any other error is one of the probe.
      case WITLET_BASE_TYPES_ERROR_UNAVAILABLE:
      case WITLET_BASE_TYPES_ERROR_TIMEOUT:
      case WITLET_BASE_TYPES_ERROR_FAILED:
        outcome->verdict = EXPORTS_WITLET_PROBE_PROBE_VERDICT_FAIL;
        // All cases have their text at the same place.
        outcome->message = failure.val.unavailable;
        return true;
      default:
        *error = failure;
        return false;
    }
  }
  bool whole = has(reply.body.ptr, reply.body.len, contains, contains_size);
  unsigned status = reply.status;
  witlet_probe_pod_net_http_reply_free(&reply);
  if (status < 200 || status >= 400) return fails_with_status(outcome, status);
  if (!whole) return fails(outcome, "the page does not contain what it should");
  outcome->verdict = EXPORTS_WITLET_PROBE_PROBE_VERDICT_PASS;
  plugin_string_dup(&outcome->message, "");
  return true;
}
