// A policy: pods carry a label.
//
// config: { label = "team" }.
//
// target/plugin/bindings/plugin.h has all names: witlet-plugin makes it from wit/.

#include "plugin.h"

#include "json.h"

typedef exports_witlet_policy_admission_review_t review_t;
typedef exports_witlet_policy_admission_error_t error_t;

// True: the review is the answer. False: the error is.
bool exports_witlet_policy_admission_admit_pod(exports_witlet_policy_admission_borrow_pod_t pod, review_t *review,
                                               error_t *error) {
  plugin_string_t config, value;
  witlet_base_config_get(&config);
  const char *label;
  size_t size;
  if (!json_text((const char *)config.ptr, config.len, "label", &label, &size)) {
    error->tag = WITLET_BASE_TYPES_ERROR_INVALID;
    plugin_string_dup(&error->val.invalid, "the plugin's configuration: write { label = \"...\" }");
    return false;
  }
  memset(review, 0, sizeof *review);
  plugin_string_t key = {(uint8_t *)label, size};
  if (witlet_base_objects_method_pod_label(pod, &key, &value) && value.len > 0) {
    review->decision.tag = EXPORTS_WITLET_POLICY_ADMISSION_DECISION_ALLOW;
    return true;
  }
  char message[256] = "pods here carry the label ";
  size_t said = strlen(message);
  if (size > sizeof message - said - 1) size = sizeof message - said - 1;
  memcpy(message + said, label, size);
  exports_witlet_policy_admission_denial_t *denial = &review->decision.val.deny;
  review->decision.tag = EXPORTS_WITLET_POLICY_ADMISSION_DECISION_DENY;
  plugin_string_dup(&denial->reason, "LabelRequired");
  plugin_string_dup(&denial->message, message);
  return true;
}
