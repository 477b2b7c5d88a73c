"""Watch the folder of a camera: name the landmark in each photo that arrives, until Ctrl-C.

python examples/watch_folder.py camera/          --once: name what is there, and stop
"""

import sys
import time
from pathlib import Path

import obelisk
from obelisk.photos import PHOTO_SUFFIXES

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    sys.exit(f"give a folder that exists\n{__doc__}")
folder, once = Path(sys.argv[1]), "--once" in sys.argv
recognizer = obelisk.Recognizer.open()
seen = set()


def find_new():
    """Return photos that are new and that nobody is writing any more."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PHOTO_SUFFIXES and path not in seen]
    return [path for path in found if once or time.time() - path.stat().st_mtime > 2]


while True:
    for answer in recognizer.recognize(new := find_new()):
        print(answer.photo, answer.error or answer.landmark or "unknown", f"{answer.confidence:.4f}", flush=True)
    seen.update(new)
    if once:
        break
    time.sleep(1)
