"""Read the weights in a file, and find those of a network among them, however the file spells their names."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from obelisk.embedding import cache_folder
from obelisk.errors import ModelError
from obelisk.files import replace_file
from obelisk.training.model.pooled_backbone import TimmNetwork

State = dict[str, Tensor]

COUNTER = "num_batches_tracked"  # of a batch norm: older files lack it, and nothing that is computed depends on it
LAYOUT = 2  # version of the copies that are kept of pickles
# Squeeze-and-excitation networks as Cadene's files spell them → as timm does.
SPELLINGS = ((r"^layer0\.", ""), (r"\.se_module\.", ".se."))


def load_file(network: TimmNetwork, path: Path, name: str, key: str = "") -> TimmNetwork:
    """Load weights from a .safetensors file, or from a .pth file through its safetensors copy in the cache.

    Tensors are matched by name, whatever prefix the file puts in front of all of them, and in the spellings that timm
    translates (torchvision's, DINO's own, OpenCLIP's). Position embeddings are resampled to the network's size. Names
    of another implementation are matched by their order, where every shape and the last part of every name agree.
    ``key`` chooses one of several networks in the file. A classifier in the file is left out. Raises ModelError when
    the weights do not fit.
    """
    state = choose_state(read_state(path), key, network, path)
    found = next((one for one in spell(state, network, name) if not misfits(network, one)), None)
    if found is None and (path.suffix != ".safetensors" or has_order(path)):
        found = match_by_order(state, network)
    if found is None:
        refuse_misfits(network, next(spell(state, network, name)), path, name)
    assert found is not None
    own = network.state_dict()
    kept = {each: found[each] for each in own if each in found}
    for each, tensor in kept.items():
        if not bool(torch.isfinite(tensor).all()):
            what = f"`{each}` holds numbers that are not finite"
            raise ModelError(what, where=path, fix="give a sound copy of the weights")
    network.load_state_dict({**own, **kept})
    return network


def spell(state: State, network: TimmNetwork, name: str) -> Iterator[State]:
    """Yield a state dict in the spellings that its names may mean, the likeliest first."""
    plain = strip_prefix(state, network)
    yield plain
    renamed = {rename(each): tensor for each, tensor in plain.items()}
    if renamed.keys() != plain.keys():
        yield strip_prefix(renamed, network)
    if translate := find_translation(name):
        for each in (plain, state, cut_common_prefix(state)):
            try:
                translated = translate(dict(each), network)
            except Exception:  # it expects names that this file does not have
                continue
            yield strip_prefix(translated, network)


def rename(name: str) -> str:
    """Return the name of a tensor as timm spells it."""
    for before, after in SPELLINGS:
        name = re.sub(before, after, name)
    return name


def find_translation(name: str) -> Any:
    """Return timm's own function that translates a file for a network, or None: most modules have one."""
    import timm

    module = sys.modules[timm.models.model_entrypoint(name).__module__]
    return getattr(module, "checkpoint_filter_fn", None)


def strip_prefix(state: State, network: TimmNetwork) -> State:
    """Return the tensors under the prefix, such as ``module.`` or ``visual.trunk.``, that most of the network's share.

    A state dict none of whose names the network knows stays as it is.
    """
    own = network.state_dict().keys()
    counts = {prefix: sum(prefix + each in state for each in own) for prefix in list_prefixes(state, network)}
    prefix = max(counts, key=lambda each: (counts[each], -len(each)), default="")
    if not prefix or not counts[prefix]:
        return state
    return {each.removeprefix(prefix): tensor for each, tensor in state.items() if each.startswith(prefix)}


def list_prefixes(state: State, network: TimmNetwork) -> set[str]:
    """Return what stands in front of the names of a network's tensors in a state dict: "" where nothing does."""
    anchors = [each for each in network.state_dict() if not each.endswith(COUNTER)]
    anchors = [*anchors[:3], *anchors[-3:]]
    return {
        each.removesuffix(anchor)
        for anchor in anchors
        for each in state
        if each == anchor or each.endswith("." + anchor)
    }


def cut_common_prefix(state: State) -> State:
    """Return a state dict without the first part of its names, where that is the same in all of them."""
    first = {each.partition(".")[0] for each in state}
    return {each.partition(".")[2]: tensor for each, tensor in state.items()} if len(first) == 1 else state


def misfits(network: TimmNetwork, state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of a network's tensors that a state dict lacks, or has in another shape."""
    return [
        name
        for name, tensor in network.state_dict().items()
        if not (name in state and state[name].shape == tensor.shape) and not name.endswith(COUNTER)
    ]


def match_by_order(state: State, network: TimmNetwork) -> State | None:
    """Match tensors by their order, as another implementation of the network has them; None where they don't line up.

    The classifier is the last layer: what stands in front of it must agree in every shape and in the last part of every
    name. Counters may be missing.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}
    given = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    if len(given) < len(own):
        return None
    pairs = list(zip(own.items(), given.items(), strict=False))
    if any(
        tensor.shape != other.shape or last_part(name) != last_part(other_name)
        for (name, tensor), (other_name, other) in pairs
    ):
        return None
    return {name: other for (name, _), (_, other) in pairs}


def last_part(name: str) -> str:
    """Return what a tensor is to its layer, such as weight, bias or running_mean."""
    return name.rpartition(".")[2]


def refuse_misfits(network: TimmNetwork, state: State, path: Path, name: str) -> None:
    """Raise ModelError for weights of another network."""
    own, wrong = network.state_dict(), misfits(network, state)
    first = wrong[0]
    if first in state:
        reason = f"is {tuple(state[first].shape)} in the file and {tuple(own[first].shape)} in the network"
    else:
        reason = f"is not in the file, whose first is `{next(iter(state), 'none')}`"
    fix = "give weights of this very network, or name theirs: --set backbone.names=NAME"
    what = f"{len(wrong)} of {len(own)} tensors do not fit `{name}`, first `{first}`, which {reason}"
    raise ModelError(what, where=path, fix=fix)


def choose_state(state: State, key: str, network: TimmNetwork, path: Path) -> State:
    """Return the state dict under a key, or the only one; raises ModelError where several fit, or none is there."""
    if key:
        chosen = {name.removeprefix(f"{key}."): each for name, each in state.items() if name.startswith(f"{key}.")}
        if not chosen:
            known = sorted({name.partition(".")[0] for name in state})
            fix = f"the file has {', '.join(known[:5])}{' …' if len(known) > 5 else ''}"
            raise ModelError(f"backbone.weights_key = {key!r} is not in the file", where=path, fix=fix)
        return chosen
    keys = list_networks(state, network)
    if len(keys) > 1:
        fix = f"choose one: --set backbone.weights_key={keys[0]}"
        raise ModelError(f"the file has several networks: {', '.join(keys)}", where=path, fix=fix)
    return state


def list_networks(state: State, network: TimmNetwork) -> list[str]:
    """Return the keys of the networks in a file, each of which could be this one: by its names, or by its size."""
    own = [name for name in network.state_dict() if not name.endswith(COUNTER)]
    named = [prefix for prefix in list_prefixes(state, network) if all(prefix + each in state for each in own)]
    if named:
        first = {prefix.partition(".")[0] for prefix in named}
        return sorted(first) if len(first) == len(named) else sorted(prefix.rstrip(".") for prefix in named)
    counts = Counter(name.partition(".")[0] for name in state if not name.endswith(COUNTER))
    return sorted(key for key, count in counts.items() if count >= len(own))


def read_state(path: Path) -> State:
    """Read a state dict in its own order; a pickle is read with ``weights_only`` once, then kept as safetensors.

    Where a file holds several, or one beside other things, the names begin with the key of each.
    """
    if not path.is_file():
        raise ModelError("no such weights file", where=path, fix="give a .safetensors or .pth file")
    return read_safetensors(path if path.suffix == ".safetensors" else convert_pickle(path))


def convert_pickle(path: Path) -> Path:
    """Convert a pickled state dict to safetensors in the cache folder; return its path."""
    from safetensors.torch import save_file

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    copy = cache_folder() / "weights" / f"{digest}-{LAYOUT}.safetensors"
    if copy.is_file():
        return copy
    try:
        state = dict(list_tensors(torch.load(path, map_location="cpu", weights_only=True)))
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError("not a plain state dict of tensors", where=path, fix="save it as safetensors") from error
    if not state:
        raise ModelError("no state dict of tensors in the file", where=path, fix="save the network's state_dict()")
    return replace_file(copy, lambda partial: save_file(state, partial, metadata={"order": json.dumps(list(state))}))


def list_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state dict by name, or those of the state dicts in a checkpoint, a level down."""
    nested = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield key, value.detach().clone(memory_format=torch.contiguous_format)
    for key, state in nested.items():
        for name, tensor in state.items():
            if isinstance(tensor, Tensor):  # an optimizer's state is by number, and deeper
                yield f"{key}.{name}", tensor.detach().clone(memory_format=torch.contiguous_format)


def has_order(path: Path) -> bool:
    """Return whether a safetensors file says in which order its tensors stand: the format itself keeps none."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return "order" in (file.metadata() or {})


def read_safetensors(path: Path) -> State:
    """Read a safetensors file, in the order that its metadata names (the format itself keeps none)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            order = json.loads((file.metadata() or {}).get("order", "null")) or list(file.keys())
            return {key: file.get_tensor(key) for key in order}
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"not a safetensors file: {error}", where=path, fix="give a whole copy of it") from error
