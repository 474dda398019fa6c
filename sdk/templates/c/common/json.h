// As much of JSON as small plugins need: members of one flat object, without escapes. For more, bring a parser.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/// Where the value of a member begins; NULL if there is none.
static inline const char *json_member(const char *text, size_t length, const char *key) {
  size_t size = strlen(key);
  const char *end = text + length;
  for (const char *at = text; at + size + 3 <= end; at++) {
    if (at[0] != '"' || memcmp(at + 1, key, size) != 0 || at[size + 1] != '"') continue;
    const char *value = at + size + 2;
    while (value < end && (*value == ' ' || *value == ':')) value++;
    return value < end ? value : NULL;
  }
  return NULL;
}

/// A whole number that is not negative.
static inline bool json_number(const char *text, size_t length, const char *key, unsigned *number) {
  const char *at = json_member(text, length, key);
  if (at == NULL || *at < '0' || *at > '9') return false;
  unsigned value = 0;
  for (; at < text + length && *at >= '0' && *at <= '9'; at++) value = value * 10 + (unsigned)(*at - '0');
  *number = value;
  return true;
}

/// A text; it lies in what was given.
static inline bool json_text(const char *text, size_t length, const char *key, const char **found, size_t *size) {
  const char *at = json_member(text, length, key);
  if (at == NULL || *at != '"') return false;
  const char *last = memchr(at + 1, '"', (size_t)(text + length - at - 1));
  if (last == NULL) return false;
  *found = at + 1;
  *size = (size_t)(last - at - 1);
  return true;
}
