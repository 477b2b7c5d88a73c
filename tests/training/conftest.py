"""What the training room's tests share: photos that are loaded by the test's own process."""

from collections.abc import Generator, Iterable

import pytest

from obelisk.training.loading import photo_batches
from obelisk.training.loading.batch import Batch
from obelisk.training.loading.loader import BatchReader, BatchRequest, prepare_batch


@pytest.fixture
def loads_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the same batches without processes of their own, whose start takes seconds."""

    def load(requests: Iterable[BatchRequest], *, aside: bool) -> Generator[Batch]:
        reader = BatchReader()
        yield from (prepare_batch(reader[request]) for request in requests)

    monkeypatch.setattr(photo_batches, "load_batches", load)
