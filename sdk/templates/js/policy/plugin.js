// A policy: pods carry a label.
//
// config: { label = "team" }.

import { get } from 'witlet:base/config@0.1.0';

export const admission = {
  admitPod(pod) {
    const { label, ...rest } = JSON.parse(get());
    if (typeof label !== 'string' || Object.keys(rest).length > 0) {
      throw { tag: 'invalid', val: `the plugin's configuration: write { label = "…" }` };
    }
    if (pod.label(label)) {
      return { decision: { tag: 'allow' }, warnings: [] };
    }
    const denial = { reason: 'LabelRequired', message: `pods here carry the label ${label}` };
    return { decision: { tag: 'deny', val: denial }, warnings: [] };
  },
};
