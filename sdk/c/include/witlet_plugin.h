/* witlet_plugin.h - plugins of a witlet node in native code.
 *
 * Read docs/plugins/native.md first: such a plugin is a part of the agent. Nothing limits what it does, and what breaks it
 * breaks the agent. Almost everything is better off as a WebAssembly component.
 *
 * A plugin is a shared library with three symbols:
 *
 *   witlet_plugin_abi       read before anything of the plugin is called;
 *   witlet_plugin_manifest  JSON: what the plugin is;
 *   witlet_plugin_open      makes an instance: the one function that is looked up by name.
 *
 * RULES
 *
 * Loading. The agent loads a library once and never unloads it. Another version is another library, loaded beside the first;
 * static data is not shared between them. The library runs from a copy in memory: it finds other libraries through the
 * system's paths or an absolute RUNPATH, not through $ORIGIN.
 *
 * Calls. An instance may be called by several threads at once, as many as limits.concurrency of its stanza allows; with 1 it is
 * one at a time, but not always the same thread. A call that takes longer than limits.wall_per_call has failed for its caller,
 * and goes on until it returns; it keeps its place among the concurrent calls.
 *
 * Memory. What one side allocates, that side frees. What the agent passes in is valid until the function returns, unless said
 * otherwise; it is never NUL-terminated and must not be changed. What a call answers belongs to the plugin until the agent has
 * called `release` with it.
 *
 * Errors. Nothing unwinds across the border: no C++ exception, no longjmp, no panic, in either direction.
 *
 * Versions. Structures begin with their size as the side that filled them knows it. Later versions of this ABI only add fields
 * at the end; a field beyond `size` is not there. What cannot be added like that gets another WITLET_ABI_VERSION.
 */
#ifndef WITLET_PLUGIN_H
#define WITLET_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WITLET_ABI_MAGIC UINT32_C(0x544C5457) /* "WTLT" */
#define WITLET_ABI_VERSION UINT32_C(1)

struct witlet_abi {
    uint32_t magic;
    uint32_t version;
};

/* Bytes of somebody else. `data` may be NULL if `len` is 0. */
struct witlet_bytes {
    const uint8_t *data;
    size_t len;
};

/* How a call ended. The errors are those of `error` in witlet:base/types, in its order. */
enum witlet_status {
    WITLET_OK = 0,
    /* The input or the plugin's configuration cannot be used. Trying again does not help. */
    WITLET_INVALID = 1,
    /* Something that was asked for does not exist. */
    WITLET_NOT_FOUND = 2,
    /* Not permitted. */
    WITLET_DENIED = 3,
    /* Cannot be had now; trying again may help. Also for operations that the plugin does not have. */
    WITLET_UNAVAILABLE = 4,
    /* A deadline passed. */
    WITLET_TIMEOUT = 5,
    /* Tried and failed. */
    WITLET_FAILED = 6,
    WITLET_OTHER = 7
};

enum witlet_level {
    WITLET_ERROR = 0,
    WITLET_WARN = 1,
    WITLET_INFO = 2,
    WITLET_DEBUG = 3,
    WITLET_TRACE = 4
};

/* What the agent offers to one instance. It is valid until `close` of the instance has returned, or
 * witlet_plugin_open if that returns NULL. */
struct witlet_host {
    size_t size;
    void *context;
    /* The name of the plugin's stanza. */
    struct witlet_bytes name;
    /* Its `config`, as a JSON object. */
    struct witlet_bytes config;
    /* Writes a line of UTF-8 into the agent's log: at most 50 a second. It may be called by any thread. */
    void (*log)(void *context, uint32_t level, struct witlet_bytes text);
};

/* What a call answers. The agent sets all of it to zero but `size`. */
struct witlet_response {
    size_t size;
    /* After WITLET_OK the answer as JSON, otherwise what went wrong, as UTF-8 text for people. NULL: nothing. */
    uint8_t *data;
    size_t len;
};

/* An instance. */
struct witlet_plugin {
    size_t size;
    /* Passed to its functions. */
    void *self;
    /* One operation of the plugin's kind. `operation` is the name of the function in the kind's WIT package, such as `check`;
     * `request` is a JSON object with that function's parameters. Returns a witlet_status. */
    int32_t (*call)(void *self, struct witlet_bytes operation, struct witlet_bytes request,
                    struct witlet_response *response);
    /* Frees what a call answered. May be NULL if nothing has to be freed. */
    void (*release)(void *self, uint8_t *data, size_t len);
    /* The end of the instance: no call of it runs, and none follows. The library stays. May be NULL. */
    void (*close)(void *self);
};

#if defined(__GNUC__)
#define WITLET_EXPORT __attribute__((visibility("default")))
#else
#define WITLET_EXPORT
#endif

/* The ABI that the plugin was built for: write `const struct witlet_abi witlet_plugin_abi = WITLET_ABI;` */
#define WITLET_ABI { WITLET_ABI_MAGIC, WITLET_ABI_VERSION }
extern WITLET_EXPORT const struct witlet_abi witlet_plugin_abi;

/* A JSON object, NUL-terminated:
 *
 *   {"name": "gpu", "version": "1.0.0", "kind": "probe", "track": "0.1"}
 *
 * `kind` and `track` name the WIT package whose functions it answers. Further members: "exports", the optional interfaces that
 * it answers besides (["witlet:lifecycle/self-check", "witlet:policy-hooks/access", "witlet:policy-hooks/container-create"]);
 * "capabilities", of which native plugins have two, because it is answers that they permit: "exec" (programs of a network
 * plugin's offline teardown) and "host-path"; "drivers" and "state_version", as for any plugin. */
extern WITLET_EXPORT const char witlet_plugin_manifest[];

/* Makes an instance: one for each version of the stanza, and each with its own configuration. NULL: it cannot be; the last line
 * that was logged as WITLET_ERROR says why. What is returned stays where it is until `close`. */
WITLET_EXPORT const struct witlet_plugin *witlet_plugin_open(const struct witlet_host *host);

#ifdef __cplusplus
}
#endif

#endif
