"""A picture, and streamed speech, using only Python's standard library. While `npm start` is running:

    python3 examples/python.py
"""

import base64
import json
import os
import pathlib
import time
import urllib.error
import urllib.request

folder = pathlib.Path(os.environ.get("STATE_DIR") or ".portico")
dev = json.loads((folder / "dev.json").read_text())


def post(path, body):
    """Returns the open response. Retries a retryable refusal up to four times."""
    request = urllib.request.Request(
        dev["url"] + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {dev['api_key']}", "Content-Type": "application/json"},
    )
    for attempt in range(5):
        try:
            return urllib.request.urlopen(request, timeout=300)
        except urllib.error.HTTPError as error:
            refusal = json.load(error)["error"]
            if attempt == 4 or not refusal["retryable"]:
                raise SystemExit(f"{error.code} {refusal['code']}: {refusal['message']}") from error
            time.sleep(float(error.headers.get("Retry-After") or 1))


with post("/v1/images/generations", {"model": "portrait", "prompt": "a lighthouse", "size": "512x512"}) as answer:
    picture = json.load(answer)["data"][0]
    (folder / "lighthouse.png").write_bytes(base64.b64decode(picture["b64_json"]))
    print("picture:", folder / "lighthouse.png", "made by", answer.headers.get("X-Portico-Card"))

sent = time.monotonic()
speech = {"model": "cosyvoice2", "voice": "default", "input": "The first word is heard before the last is made."}
with post("/v1/audio/speech", {**speech, "response_format": "wav"}) as answer, open(folder / "word.wav", "wb") as file:
    first = answer.read1(65536)
    print(f"sound: first {len(first)} bytes after {time.monotonic() - sent:.2f} s")
    file.write(first)
    while chunk := answer.read1(65536):
        file.write(chunk)
    print(f"sound: all of it after {time.monotonic() - sent:.2f} s in", folder / "word.wav")
