import threading
from collections.abc import Sequence

import pytest

from obelisk.service.problems import ProblemError
from obelisk.service.request_queue import RequestQueue
from obelisk.service.uploads import Upload


def uploads(*names: str) -> list[Upload]:
    return [Upload(name=name, data=b"") for name in names]


class SlowAnswers:
    """Answers by the photo's name; the first batch waits until the test lets it go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, photos: Sequence[Upload], options: str) -> list[str]:
        self.batches.append([photo.name for photo in photos])
        self.begun.set()
        assert self.go.wait(60)
        if options == "fail":
            raise ValueError("no answer")
        return [f"{photo.name} {options}" for photo in photos]


def test_waiting_requests_are_answered_together() -> None:
    answers = SlowAnswers()
    queue = RequestQueue(answers)
    first = queue.submit(uploads("a"), "x")
    assert answers.begun.wait(60)
    later = [queue.submit(uploads("b", "c"), "x"), queue.submit(uploads("d"), "y"), queue.submit(uploads("e"), "x")]
    answers.go.set()
    assert first.result(60) == ["a x"]
    assert [one.result(60) for one in later] == [["b x", "c x"], ["d y"], ["e x"]]
    assert answers.batches == [["a"], ["b", "c", "e"], ["d"]]
    queue.close()


def test_an_error_reaches_those_it_concerns_and_no_other() -> None:
    answers = SlowAnswers()
    answers.go.set()
    queue = RequestQueue(answers)
    with pytest.raises(ValueError, match="no answer"):
        queue.submit(uploads("a"), "fail").result(60)
    assert queue.submit(uploads("b"), "x").result(60) == ["b x"]
    assert queue.photos == 0
    queue.close()


def test_a_client_that_hung_up_is_not_answered() -> None:
    answers = SlowAnswers()
    queue = RequestQueue(answers)
    queue.submit(uploads("a"), "x")
    assert answers.begun.wait(60)
    gone, stays = queue.submit(uploads("b"), "x"), queue.submit(uploads("c"), "x")
    assert gone.cancel()
    answers.go.set()
    assert stays.result(60) == ["c x"]
    queue.close()
    assert answers.batches == [["a"], ["c"]]


def test_too_many_are_refused_with_a_time_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.service.request_queue.MOST_WAITING", 3)
    answers = SlowAnswers()
    queue = RequestQueue(answers)
    accepted = queue.submit(uploads("a", "b"), "x")
    with pytest.raises(ProblemError) as refused:
        queue.submit(uploads("c", "d"), "x")
    assert refused.value.status == 429
    assert refused.value.headers == {"Retry-After": "1"}
    answers.go.set()
    assert accepted.result(60) == ["a x", "b x"]
    queue.close()


def test_what_was_accepted_is_answered_before_the_end() -> None:
    answers = SlowAnswers()
    queue = RequestQueue(answers)
    accepted = [queue.submit(uploads(name), "x") for name in "abc"]
    closing = threading.Thread(target=queue.close)
    closing.start()
    answers.go.set()
    closing.join(60)
    assert [one.result(0) for one in accepted] == [["a x"], ["b x"], ["c x"]]
    with pytest.raises(ProblemError) as refused:
        queue.submit(uploads("d"), "x")
    assert refused.value.status == 503
