"""How fast made-up landmarks are rendered, in seconds of one core."""

import time

import pytest

from obelisk.synthetic import render_photo

pytestmark = pytest.mark.stress

SEEDS, PHOTOS_EACH = 20, 10
LEAST_RATE = 200  # photos per second of one core


def test_two_hundred_photos_a_second_on_one_core() -> None:
    for seed in range(SEEDS):
        render_photo(seed, 0)
    start = time.process_time()
    for seed in range(SEEDS):
        for index in range(1, PHOTOS_EACH + 1):
            render_photo(seed, index)
    assert SEEDS * PHOTOS_EACH / (time.process_time() - start) >= LEAST_RATE
