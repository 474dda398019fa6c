"""A policy: pods carry a label.

config: { label = "team" }.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.admission import Decision_Allow, Decision_Deny, Denial, Review
from wit_world.imports import config
from wit_world.imports.types import Error_Invalid


class Admission(exports.Admission):
    def admit_pod(self, pod):
        settings = json.loads(config.get())
        if list(settings) != ["label"]:
            raise Err(Error_Invalid('the plugin\'s configuration: write { label = "…" }'))
        label = settings["label"]
        if pod.label(label):
            return Review(Decision_Allow(), [])
        denial = Denial("LabelRequired", f"pods here carry the label {label}")
        return Review(Decision_Deny(denial), [])
