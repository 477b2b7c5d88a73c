"""Answers as people read them: one line a photo or several, and at the end how many photos show each landmark."""

from __future__ import annotations

import shutil
import sys
from collections import Counter

from rich.cells import cell_len

from obelisk.cli.console import count_of, result, table
from obelisk.markup import visible
from obelisk.records import Candidate, Recognition
from obelisk.wording import describe_answer, describe_verdict, format_credit, format_decimal, format_position

WIDEST_PATH = 40  # columns; what follows longer ones is not aligned
OTHER_LINES = 6  # of a terminal, beside the rows of the count
FEWEST_ROWS = 5

OF_VERDICT = {"sure": "named", "probable": "probable", "unknown": "unknown"}
KINDS = (*OF_VERDICT.values(), "failed")

Key = tuple[str | None, int]  # of a landmark: its gallery and its id there


class AnswerLines:
    """Prints answers as they come, and the closing count."""

    def __init__(self, *, details: bool, summary: bool) -> None:
        self._details = details
        self._summary = summary
        self._width = 0
        self._verdicts: Counter[str] = Counter()
        self._names: dict[Key, str] = {}
        self._photos: dict[str, Counter[Key]] = {"sure": Counter(), "probable": Counter()}

    def show(self, answer: Recognition) -> None:
        """Count an answer, and print it unless only the count is wanted; what failed is on stderr."""
        self._count(answer)
        if answer.error or self._summary:
            return
        for line in describe_in_detail(answer) if self._details else [self._describe(answer)]:
            result(line)

    def close(self) -> None:
        """Print the count, unless there was only one photo."""
        total = self._verdicts.total()
        if not (self._summary or total > 1):
            return
        if not self._summary:
            result("")
        counts = ", ".join(f"{count} {verdict}" for verdict in KINDS if (count := self._verdicts[verdict]))
        result(f"{count_of(total, 'photo')}{': ' if counts else ''}{counts}")
        self._print_landmarks()

    def _count(self, answer: Recognition) -> None:
        self._verdicts["failed" if answer.error else OF_VERDICT[answer.verdict]] += 1
        if answer.verdict in self._photos:
            first = answer.candidates[0]
            key = first.gallery, first.landmark_id
            self._names[key] = first.landmark
            self._photos[answer.verdict][key] += 1

    def _describe(self, answer: Recognition) -> str:
        """Return an answer's line; answers stand below each other as far as the paths until then allow."""
        taken = cell_len(visible(answer.photo))
        self._width = max(self._width, min(taken, WIDEST_PATH))
        return f"{answer.photo}{' ' * (self._width - taken)}  {describe_answer(answer)}"

    def _print_landmarks(self) -> None:
        """Print how many photos show each landmark, most first; on a terminal, as many landmarks as it has room for."""
        sure, probable = self._photos["sure"], self._photos["probable"]
        keys = sorted(self._names, key=lambda key: (-sure[key], -probable[key], self._names[key]))
        room = max(FEWEST_ROWS, shutil.get_terminal_size().lines - OTHER_LINES) if sys.stdout.isatty() else len(keys)
        columns = [("named", sure)] + ([("probable", probable)] if probable else [])
        several = len({gallery for gallery, _ in keys}) > 1
        rows = [
            [*(counts[key] for _, counts in columns), self._names[key], *([key[0] or ""] if several else [])]
            for key in keys[:room]
        ]
        if rows:
            table([*(name for name, _ in columns), "landmark", *(["gallery"] if several else [])], rows)
        if rest := keys[room:]:
            counts = ", ".join(f"{sum(counts[key] for key in rest)} {name}" for name, counts in columns)
            result(f"and {count_of(len(rest), 'more landmark')}: {counts}")


def describe_in_detail(answer: Recognition) -> list[str]:
    """Return an answer as several lines: the verdict, the candidates, and the reference photos that it rests on."""
    confidence, threshold = answer.confidence, answer.threshold
    stated = f"confidence {format_decimal(confidence, 4)}"
    if answer.verdict != "sure" and threshold is not None:
        digits = 4  # more, if these don't tell the confidence from the threshold
        while digits < 17 and f"{confidence:.{digits}f}" == f"{threshold:.{digits}f}":
            digits += 1
        stated = f"confidence {format_decimal(confidence, digits)}, below the threshold {threshold:.{digits}f}"
    lines = [f"{answer.photo}: {describe_verdict(answer)} ({stated})"]
    for rank, candidate in enumerate(answer.candidates, start=1):
        links = answer.links if rank == 1 else ()
        facts = [candidate.landmark, f"score {format_decimal(candidate.score, 4)}", *list_position(candidate), *links]
        lines.append(f"    {rank}. {'  '.join(facts)}")
    for near in answer.neighbours:
        numbers = f"similarity {format_decimal(near.similarity, 4)}  distance {format_decimal(near.distance, 4)}"
        published = filter(None, [near.source, format_credit(near.author, near.licence)])
        lines.append("  ".join([f"    near {near.id}", near.landmark, numbers, *published]))
    return lines


def list_position(candidate: Candidate) -> list[str]:
    """Return the position of a candidate, if it is known."""
    if candidate.latitude is None or candidate.longitude is None:
        return []
    return [format_position(candidate.latitude, candidate.longitude)]
