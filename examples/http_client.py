"""Ask a running `obelisk serve` what photos show; the photos go to that service and nowhere else.

python examples/http_client.py http://127.0.0.1:8000 photo.jpg …
"""

import json
import sys
import urllib.request
from pathlib import Path

address, *photos = sys.argv[1:]
for photo in photos:
    headers = {"Content-Type": "image/jpeg"}
    request = urllib.request.Request(f"{address}/v1/recognize", Path(photo).read_bytes(), headers)
    (answer,) = json.load(urllib.request.urlopen(request))["answers"]
    print(photo, answer["landmark"] or answer["error"] or "not a landmark I know", answer["confidence"])
