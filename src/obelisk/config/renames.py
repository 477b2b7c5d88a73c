"""Recipe keys and values that were renamed: errors name their successors, old run folders stay readable.

A recipe that a person writes must use today's names: an old one is an error that names its successor. A recipe that a
run recorded can't be edited any more, so it is translated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Tables = dict[str, Any]

RENAMED: Mapping[str, str] = {
    "neck.normalise_parts": "neck.normalize_parts",
    "finetuning.largest_gradient": "finetuning.clip_grad_norm",
    "finetuning.average": "finetuning.ema_decay",
    "finetuning.head_rate": "finetuning.head_lr_scale",
    "finetuning.accumulation": "finetuning.micro_batches",
}
"""old key → new key of the same section"""

RENAMED_VALUES: Mapping[str, Mapping[str, str]] = {"backbone.pooling": {"gap": "avg"}}
"""key → old value → new value"""

ADDED: Mapping[str, Any] = {
    "backbone.weights_key": "",
    "training.ema_decay": 0.0,
    "training.clip_grad_norm": 0.0,
    "finetuning.patience": 0,
    "loss.instance": 0.0,
    "loss.instance_temperature": 0.05,
    "loss.instance_entropy": 0.0,
    "loss.sharded": False,
    "second_order.stages": (),
    "second_order.dimensions": 192,
    "second_order.weight": 0.3,
}
"""key added after version 0.1.0 → the value with which it changes nothing"""


def to_present_names(tables: Mapping[str, Any]) -> Tables:
    """Return a recipe's tables with old keys and values replaced by their successors."""
    present = copy.deepcopy(dict(tables))
    for old, new in RENAMED.items():
        rename_key(present, old, new)
    for key, values in RENAMED_VALUES.items():
        for old, new in values.items():
            replace_value(present, key, old, new)
    return present


def to_first_names(tables: Mapping[str, Any]) -> Tables:
    """Return a recipe's tables as version 0.1.0 would have written them, in the same order.

    Fingerprints are computed from these, so that renaming or adding a key changes no recorded fingerprint.
    """
    first = copy.deepcopy(dict(tables))
    for key, neutral in ADDED.items():
        section, name = key.split(".")
        if first[section][name] == neutral:
            del first[section][name]
    first = {name: value for name, value in first.items() if value != {}}
    for key, values in RENAMED_VALUES.items():
        for old, new in values.items():
            replace_value(first, key, new, old)
    for old, new in RENAMED.items():
        rename_key(first, new, old)
    return first


def rename_key(tables: Tables, old: str, new: str) -> None:
    """Rename a key in place; the order of the section's keys stays."""
    (section, before), (_, after) = old.split("."), new.split(".")
    if isinstance(keys := tables.get(section), dict) and before in keys:
        tables[section] = {after if name == before else name: value for name, value in keys.items()}


def replace_value(tables: Tables, key: str, old: str, new: str) -> None:
    """Replace one value of a key in place."""
    section, name = key.split(".")
    if isinstance(keys := tables.get(section), dict) and keys.get(name) == old:
        keys[name] = new
