/* A native plugin of any kind, for tests. -DKIND="probe" and so on say what it is; -DABI, -DSIZE and others what is wrong. */
#define _GNU_SOURCE
#include "witlet_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TEXT
#define TEXT "1"
#endif
#ifndef MAGIC
#define MAGIC WITLET_ABI_MAGIC
#endif
#ifndef ABI
#define ABI WITLET_ABI_VERSION
#endif
#ifndef TRACK
#define TRACK "0.1"
#endif
#ifndef MORE
#define MORE ""
#endif
#ifndef SIZE
#define SIZE sizeof(struct witlet_plugin)
#endif

const struct witlet_abi witlet_plugin_abi = {MAGIC, ABI};
const char witlet_plugin_manifest[] =
    "{\"name\": \"guest\", \"version\": \"" TEXT "\", \"kind\": \"" KIND "\", \"track\": \"" TRACK "\"" MORE "}";

static struct witlet_plugin table;
static const struct witlet_host *host;

static int has(struct witlet_bytes text, const char *part) {
    return memmem(text.data, text.len, part, strlen(part)) != NULL;
}

static void put(const char *path, const char *text) {
    FILE *file = fopen(path, "a");
    if (file == NULL) return;
    fputs(text, file);
    fclose(file);
}

static int32_t say(struct witlet_response *response, int32_t status, const char *text) {
    response->data = (uint8_t *)strdup(text);
    response->len = strlen(text);
    return status;
}

/* Copies what stands between `before` and the next quote. */
static int between(struct witlet_bytes text, const char *before, char *to, size_t size) {
    const char *at = memmem(text.data, text.len, before, strlen(before)), *end;
    if (at == NULL) return 0;
    at += strlen(before);
    end = memchr(at, '"', (size_t)((const char *)text.data + text.len - at));
    if (end == NULL || (size_t)(end - at) >= size) return 0;
    memcpy(to, at, (size_t)(end - at));
    to[end - at] = 0;
    return 1;
}

static int32_t call(void *self, struct witlet_bytes operation, struct witlet_bytes request,
                    struct witlet_response *response) {
    char path[512], file[600];
    (void)self;
#define IS(name) (operation.len == strlen(name) && memcmp(operation.data, name, operation.len) == 0)
    if (IS("self-check")) {
#ifdef SICK
        return say(response, WITLET_FAILED, "no driver");
#endif
        return WITLET_OK;
    }
    if (strcmp(KIND, "probe") == 0) {
        if (has(request, "\"params\":\"S\"")) sleep(2);
        if (has(request, "\"params\":\"E\"")) return say(response, WITLET_INVALID, "the text of an error");
        if (has(request, "\"params\":\"N\"")) return say(response, WITLET_OK, "no json");
        if (has(request, "\"params\":\"X\"")) return 99;
        if (!has(request, "\"container-id\":\"id\"") || !has(request, "\"pod\":{")) return WITLET_FAILED;
        return say(response, WITLET_OK, "{\"verdict\": \"pass\", \"message\": \"native " TEXT "\"}");
    }
    if (strcmp(KIND, "policy") == 0) {
        if (IS("admit-pod"))
            return say(response, WITLET_OK,
                       "{\"decision\": {\"deny\": {\"reason\": \"NotHere\", \"message\": \"m\"}}, \"warnings\": [\"w\"]}");
        if (IS("review-access") && has(request, "\"command\":[\"sh\"]"))
            return say(response, WITLET_OK, "{\"denied\": \"no shell\"}");
        return say(response, WITLET_OK, "{}");
    }
    if (strcmp(KIND, "sink-log") == 0) {
        return has(request, "\"line\":\"again\"") ? say(response, WITLET_UNAVAILABLE, "try again") : WITLET_OK;
    }
    if (strcmp(KIND, "sink-metric") == 0) {
        return has(request, "\"value\":\"NaN\"") ? say(response, WITLET_INVALID, "no number") : WITLET_OK;
    }
    if (strcmp(KIND, "volume") == 0) {
        if (!between(request, "\"path\":\"", path, sizeof path)) return WITLET_INVALID;
        snprintf(file, sizeof file, IS("publish") ? "mkdir -p '%s' && printf content > '%s/file'" : "rm -r '%s'", path, path);
        if (system(file) != 0) return say(response, WITLET_FAILED, "mkdir");
        return IS("publish") ? say(response, WITLET_OK, "{\"follows-source\": true}") : WITLET_OK;
    }
    if (IS("setup"))
        return say(response, WITLET_OK,
                   "{\"cni-result\": \"{\\\"cniVersion\\\":\\\"1.0.0\\\"}\", \"state\": \"kept\","
                   " \"offline-teardown\": [{\"program\": \"/bin/true\"}]}");
    if (IS("teardown") && !has(request, "\"state\":\"kept\"")) return say(response, WITLET_INVALID, "no state");
    return WITLET_OK;
}

static void release(void *self, uint8_t *data, size_t len) {
    (void)self;
    (void)len;
    free(data);
}

static void closed(void *self) {
    char path[512];
    (void)self;
    if (between(host->config, "\"closed\":\"", path, sizeof path)) put(path, "closed\n");
}

const struct witlet_plugin *witlet_plugin_open(const struct witlet_host *given) {
    struct witlet_bytes why = {(const uint8_t *)"no such device", 14};
    host = given;
    if (has(host->config, "\"refuse\"")) {
        host->log(host->context, WITLET_ERROR, why);
        return NULL;
    }
    table.size = SIZE;
    table.call = call;
    table.release = release;
    table.close = closed;
    return &table;
}
