"""Name the landmark in every photo of a folder, and count them.

python examples/name_a_folder.py holiday/
"""

import sys
from collections import Counter

import obelisk
from obelisk.photos import find_photos

if len(sys.argv) != 2:
    sys.exit(__doc__)
try:
    photos = find_photos(sys.argv[1])
except obelisk.UsageError as error:
    sys.exit(str(error))
recognizer = obelisk.Recognizer.open()  # the gallery that comes with the package; or name one of your own
counts = Counter()
for answer in recognizer.recognize(photos):
    if answer.error:
        print("skipped:", answer.error)
        continue
    name = answer.candidates[0].landmark
    shown = {"sure": name, "probable": f"probably {name}", "unknown": "unknown"}[answer.verdict]
    print(f"{answer.photo}  {shown}  {answer.confidence:.4f}")
    counts[shown] += 1
for shown, count in counts.most_common():
    print(f"{count:5}  {shown}")
