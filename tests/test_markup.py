"""Text that cannot break what shows it."""

from __future__ import annotations

import pytest

from obelisk.markup import is_web_address

LINKS = {
    "https://example.org/a.jpg": True,
    "HTTP://example.org": True,
    "javascript:alert(1)": False,
    "file:///home/me/a.jpg": False,  # a path of this machine
    "https:///a.jpg": False,  # no host
    "https://[": False,
    "photos/http://a.jpg": False,
    "": False,
}


@pytest.mark.parametrize(("link", "leads_to_the_web"), LINKS.items())
def test_only_addresses_of_the_web_become_links(link: str, leads_to_the_web: bool) -> None:
    assert is_web_address(link) is leads_to_the_web
