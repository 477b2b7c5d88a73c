"""``ranges.json`` of a bundle: what is read, what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from obelisk.embedding import Bundle, Embedder
from obelisk.embedding.activation_ranges import RANGES, pack_ranges, read_ranges
from obelisk.errors import ModelError


def test_ranges_are_read_as_they_were_written() -> None:
    ranges = {"model.onnx": {"add_1": (-3.5, 2.25), "relu": (0.0, 6.0)}}
    assert read_ranges(pack_ranges(ranges), Path("bundle")) == ranges


BAD = {
    "not JSON": (b"{", "not JSON"),
    "deep": (b'{"a":' * 5000 + b"1", "Invalid JSON|recursion"),
    "no mapping": (b"[1, 2]", "should be a valid dictionary"),
    "not a number": (b'{"model.onnx": {"a": [NaN, 1.0]}}', "unreadable ranges"),
    "three ends": (b'{"model.onnx": {"a": [-1, 0, 1]}}', "unreadable ranges"),
    "without zero": (b'{"model.onnx": {"a": [1.0, 2.0]}}', "is not a range that includes 0"),
    "upside down": (b'{"model.onnx": {"a": [1.0, -1.0]}}', "is not a range that includes 0"),
    "empty": (b'{"model.onnx": {"a": [0.0, 0.0]}}', "is not a range that includes 0"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_ranges_that_cannot_be_used_are_one_error(content: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        read_ranges(content, Path("bundle"))
    assert "ranges.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bundle_with_bad_ranges_is_refused(write: Callable[..., Bundle], tiny_network: bytes) -> None:
    bundle = write("bundle", tiny_network, attachments={RANGES: b'{"model.onnx": {"a": [1.0, 2.0]}}'})
    with pytest.raises(ModelError, match="is not a range that includes 0"):
        Embedder(bundle)
