"""The sample service of `dragon demo`: a process named `ollama` that answers on a loopback port as one with a single model.

`python demo_service.py PORT`; needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "llama3.2:latest"

_PR_SET_NAME = 15
"""prctl(2): sets the name that pgrep sees."""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = {"/api/tags": {"models": [{"name": MODEL}]}, "/whoami": {"pid": os.getpid()}}
        found = known.get(self.path)
        body = json.dumps(found if found is not None else {"error": "not found"}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The story has its own lines."""


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ollama", 0, 0, 0)
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
