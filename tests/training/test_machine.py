"""What memory is available: the machine's, or a control group's where that is less; what becomes of freed memory."""

from pathlib import Path

import pytest

from obelisk.training.machine import available_memory, format_bytes, peak_memory, resident_memory

GIB = 2**30
MOST, USED = "memory.max", "memory.current"
MACHINE = f"MemTotal: {9 * 2**20} kB\nMemAvailable:    {8 * 2**20} kB\nSwapFree:  {2**20} kB\n"
LIMIT_V1 = {"memory.limit_in_bytes": 3 * GIB, "memory.usage_in_bytes": GIB}


def system(root: Path, cgroup: str, groups: dict[str, dict[str, object]], machine: str = MACHINE) -> Path:
    files = {"proc/meminfo": machine, "proc/self/cgroup": cgroup}
    files |= {
        f"sys/fs/cgroup/{group}/{name}": f"{text}\n" for group, each in groups.items() for name, text in each.items()
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "groups", "gib"),
    [
        # no group at all: the machine, swap included
        ("", {}, 9),
        # version 2: the limit of the group, less what is used, files dropped
        ("0::/a\n", {"a": {MOST: 4 * GIB, USED: 2 * GIB, "memory.stat": f"anon 1\ninactive_file {GIB}"}}, 3),
        # version 2: a group above is tighter
        ("0::/a/b\n", {"a/b": {MOST: "max", USED: 1}, "a": {MOST: 2 * GIB, USED: GIB}}, 1),
        # version 2: no limit
        ("0::/\n", {"": {MOST: "max", USED: GIB}}, 9),
        # version 1, among other controllers
        ("7:cpu,cpuacct:/x\n4:memory:/job\n0::/\n", {"memory/job": LIMIT_V1}, 2),
        # version 1 in a container: the path is the host's, the limit at the mount
        ("4:memory:/docker/0123\n", {"memory": LIMIT_V1}, 2),
        # version 1 without a limit tells a huge one
        ("4:memory:/\n", {"memory": LIMIT_V1 | {"memory.limit_in_bytes": 9223372036854771712}}, 9),
        # more is used than allowed
        ("0::/a\n", {"a": {MOST: GIB, USED: 2 * GIB}}, 0),
    ],
)  # fmt: skip
def test_the_tightest_limit_counts(tmp_path: Path, cgroup: str, groups: dict[str, dict[str, object]], gib: int) -> None:
    assert available_memory(system(tmp_path, cgroup, groups)) == gib * GIB


def test_a_system_that_reports_nothing_is_not_guessed_at(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    assert resident_memory(tmp_path) == peak_memory(tmp_path) == 0


@pytest.mark.parametrize(("mib", "words"), [(0.3, "0.3 MiB"), (476.4, "476 MiB"), (2400, "2.3 GiB")])
def test_sizes_are_reported_as_people_read_them(mib: float, words: str) -> None:
    assert format_bytes(mib * 2**20) == words
