"""Ask a running `obelisk serve` what photos show; the photos go to that service and nowhere else.

python examples/http_client.py http://127.0.0.1:8000 photo.jpg …
"""

import json
import sys
import urllib.request
from pathlib import Path

if len(sys.argv) < 3:
    sys.exit(__doc__)
address, *photos = sys.argv[1:]
for photo in photos:
    try:
        request = urllib.request.Request(
            f"{address}/v1/recognize", Path(photo).read_bytes(), {"Content-Type": "image/jpeg"}
        )
        (answer,) = json.load(urllib.request.urlopen(request))["answers"]
    except (OSError, ValueError) as error:  # no such file, no service there, or another kind of server
        sys.exit(f"{photo} was not answered by {address}: {error}")
    print(photo, answer["landmark"] or answer["error"] or "not a landmark I know", answer["confidence"])
