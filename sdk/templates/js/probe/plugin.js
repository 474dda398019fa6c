// A probe: does a page answer, with what it should contain?
//
// params: {"port": 8080, "path": "/healthz", "contains": "ok"}; only the port is needed.

import { httpGet } from 'witlet:probe/pod-net@0.1.0';

/** A failure of the host has the case of WIT's `error` and a text. */
const reason = (error) => error?.payload ?? error;

export const probe = {
  check(pod, _container, paramsJson, timeoutMs) {
    const { port, path = '/', contains = '' } = JSON.parse(paramsJson);
    if (!Number.isInteger(port)) {
      throw { tag: 'invalid', val: 'params: port is a number' };
    }
    let reply;
    try {
      reply = httpGet(pod, { scheme: 'http', host: undefined, port, path, headers: [], timeoutMs, bodyLimit: 65536 });
    } catch (error) {
      const { tag, val } = reason(error);
      // It does not answer: that is what a probe is for. Any other error is one of the probe.
      if (['unavailable', 'timeout', 'failed'].includes(tag)) {
        return { verdict: 'fail', message: val };
      }
      throw { tag, val };
    }
    if (reply.status < 200 || reply.status >= 400) {
      return { verdict: 'fail', message: `status ${reply.status}` };
    }
    const body = String.fromCharCode(...reply.body);
    if (!body.includes(contains)) {
      return { verdict: 'fail', message: `the page does not contain ${JSON.stringify(contains)}` };
    }
    return { verdict: 'pass', message: '' };
  },
};
