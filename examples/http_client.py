"""Ask a running service what photos show: ``python http_client.py PHOTO PHOTO``."""

import json
import sys
import urllib.request
from pathlib import Path

for photo in map(Path, sys.argv[1:]):
    headers = {"Content-Type": "image/jpeg"}
    request = urllib.request.Request("http://127.0.0.1:8000/v1/recognize", photo.read_bytes(), headers)
    (answer,) = json.load(urllib.request.urlopen(request))["answers"]
    print(photo, answer["landmark"] or answer["error"] or "not a landmark I know", answer["confidence"])
