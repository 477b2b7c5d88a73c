"""Every test gets a cache folder of its own session: nothing of the user's is read or written."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OBELISK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
