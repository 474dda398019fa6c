/* A native probe: can a device of the node be opened?
 *
 * What a vendor's library would be asked stands here as open(2): does the device answer? The stanza names it:
 *
 *   [plugin.device]
 *   kind = "probe"
 *   source = "native:/usr/lib/witlet/probe_device.so"
 *   sha256 = "..."
 *   trusted = true
 *   config = { device = "/dev/nvidia0" }
 *
 *   cc -shared -fPIC -O2 -I sdk/c/include -o probe_device.so sdk/c/examples/probe_device.c
 */
#include "witlet_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct witlet_abi witlet_plugin_abi = WITLET_ABI;

const char witlet_plugin_manifest[] =
    "{\"name\": \"probe-device\", \"version\": \"1.0.0\", \"kind\": \"probe\", \"track\": \"0.1\"}";

struct device {
    struct witlet_plugin plugin;
    const struct witlet_host *host;
    char *path;
};

static struct witlet_bytes bytes(const char *text) {
    struct witlet_bytes it = {(const uint8_t *)text, strlen(text)};
    return it;
}

static int is(struct witlet_bytes have, const char *text) {
    return have.len == strlen(text) && memcmp(have.data, text, have.len) == 0;
}

/* Answers with a copy that `release` frees. */
static int32_t answer(struct witlet_response *response, int32_t status, const char *text) {
    response->data = (uint8_t *)strdup(text);
    response->len = response->data != NULL ? strlen(text) : 0;
    return status;
}

static int32_t call(void *self, struct witlet_bytes operation, struct witlet_bytes request,
                    struct witlet_response *response) {
    struct device *device = self;
    char text[256];
    int file;
    (void)request;
    if (!is(operation, "check")) return answer(response, WITLET_UNAVAILABLE, "a probe only checks");
    file = open(device->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        /* The path is one line of the configuration and has nothing that JSON would have to escape: see open. */
        snprintf(text, sizeof text, "{\"verdict\": \"fail\", \"message\": \"%.128s: error %d\"}", device->path, errno);
        return answer(response, WITLET_OK, text);
    }
    close(file);
    return answer(response, WITLET_OK, "{\"verdict\": \"pass\", \"message\": \"\"}");
}

static void release(void *self, uint8_t *data, size_t len) {
    (void)self;
    (void)len;
    free(data);
}

static void close_device(void *self) {
    struct device *device = self;
    free(device->path);
    free(device);
}

/* The value of "device" in {"device": "/dev/..."}; NULL if there is none. Only plain paths are taken. */
static char *device_of(struct witlet_bytes config) {
    static const char key[] = "\"device\":\"/";
    size_t size = sizeof key - 1, at, end;
    for (at = 0; at + size < config.len; at++) {
        if (memcmp(config.data + at, key, size) != 0) continue;
        at += size - 1;
        for (end = at; end < config.len && config.data[end] != '"'; end++) {
            if (config.data[end] == '\\' || config.data[end] < ' ') return NULL;
        }
        return end < config.len ? strndup((const char *)config.data + at, end - at) : NULL;
    }
    return NULL;
}

const struct witlet_plugin *witlet_plugin_open(const struct witlet_host *host) {
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL) return NULL;
    device->path = device_of(host->config);
    if (device->path == NULL) {
        host->log(host->context, WITLET_ERROR, bytes("config: device = \"/dev/...\" is missing"));
        free(device);
        return NULL;
    }
    device->host = host;
    device->plugin.size = sizeof device->plugin;
    device->plugin.self = device;
    device->plugin.call = call;
    device->plugin.release = release;
    device->plugin.close = close_device;
    return &device->plugin;
}
