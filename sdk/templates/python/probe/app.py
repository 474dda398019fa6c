"""A probe: does a page answer, with what it should contain?

params: {"port": 8080, "path": "/healthz", "contains": "ok"}; only the port is needed.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.probe import Outcome, Verdict
from wit_world.imports import pod_net
from wit_world.imports.types import Error_Failed, Error_Invalid, Error_Timeout, Error_Unavailable


class Probe(exports.Probe):
    def check(self, pod, container, params, timeout_ms):
        params = json.loads(params)
        port, contains = params.get("port"), params.get("contains", "")
        if not isinstance(port, int):
            raise Err(Error_Invalid("params: port is a number"))
        request = pod_net.HttpRequest(
            scheme=pod_net.Scheme.HTTP,
            host=None,
            port=port,
            path=params.get("path", "/"),
            headers=[],
            timeout_ms=timeout_ms,
            body_limit=65536,
        )
        try:
            reply = pod_net.http_get(pod, request)
        except Err as error:
            # It does not answer: that is what a probe is for. Any other error is one of the probe.
            if isinstance(error.value, (Error_Unavailable, Error_Timeout, Error_Failed)):
                return Outcome(Verdict.FAIL, error.value.value)
            raise
        if not 200 <= reply.status < 400:
            return Outcome(Verdict.FAIL, f"status {reply.status}")
        if contains not in reply.body.decode(errors="replace"):
            return Outcome(Verdict.FAIL, f"the page does not contain {contains!r}")
        return Outcome(Verdict.PASS, "")
