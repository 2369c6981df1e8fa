"""nostr-relay 1.14, a relay without NIP-77, run by an interpreter of its own: `plain_relay.py FOLDER PORT LIMIT VALIDATORS`.

Prints `listening PORT` and serves until its standard input ends. Events lie in FOLDER/events.sqlite3. `LIMIT` is the most
that one filter is answered with. `VALIDATORS` is a YAML list of its checks; without any it keeps what it is given, and so is a
peer that hands on what is wrong without malice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from pathlib import Path

CONFIGURATION = """
DEBUG: false
relay_name: plain
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/events.sqlite3
  num_concurrent_reqs: 10
  num_concurrent_adds: 2
  validators: {validators}
verification: {{nip05_verification: disabled}}
purple: {{host: 127.0.0.1, port: {port}, workers: 1, disable_compression: true}}
authentication: {{enabled: false}}
message_timeout: 1800
subscription_limit: 32
max_limit: {limit}
"""


def main() -> None:
    import nostr_relay  # type: ignore[import-not-found]
    from alembic import config as migration  # type: ignore[import-not-found]
    from nostr_relay import purple
    from nostr_relay.config import Config  # type: ignore[import-not-found]

    folder, port, limit, validators = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    path = folder / "relay.yaml"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, limit=limit, validators=validators))
    os.environ["NOSTR_CONFIG"] = str(path)
    said = os.dup(1)
    os.dup2(2, 1)  # migration and server log to standard output, which nobody reads beyond its first line
    Config.load(str(path))
    migration.main([f"-c{Path(nostr_relay.__file__).parent}/alembic.ini", "upgrade", "head"])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(100)
    os.write(said, f"listening {port}\n".encode())

    def leave_with_the_parent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=leave_with_the_parent, daemon=True).start()
    asyncio.run(purple.main(Config, sock=listener))


if __name__ == "__main__":
    main()
