"""Build a gallery of your own places, one folder of photos each, and recognize photos with it.

python examples/own_gallery.py places/ mycity photo.jpg …
"""

import sys

import obelisk
from obelisk.data import read_catalog
from obelisk.gallery import build_gallery, load_model
from obelisk.recognition import calibrate_gallery

if len(sys.argv) < 3:
    sys.exit(__doc__)
places, gallery, *photos = sys.argv[1:]
try:
    report = build_gallery(gallery, read_catalog(places), load_model("bundled"))  # or brings one up to date
except obelisk.ObeliskError as error:
    sys.exit(str(error))
for error in report.failed:
    print("skipped:", error)
calibrate_gallery(report.gallery)  # adapts the confidence to these places
print(report.gallery)

for answer in obelisk.Recognizer.open(gallery).recognize(photos):
    print(answer.photo, answer.error or answer.landmark or "unknown", f"{answer.confidence:.4f}")
    for neighbor in answer.neighbours:
        print(f"    {neighbor.similarity:.2f}  {neighbor.landmark}  {neighbor.source}")
