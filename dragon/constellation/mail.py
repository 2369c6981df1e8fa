"""A report as a mail: the text as its body, the page attached; by SMTP, or by this machine's `sendmail`.

Addresses are the operator's; nothing of a peer reaches a header. A mail that cannot be sent costs the run nothing.
"""

from __future__ import annotations

import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid
from pathlib import Path
from typing import Any

from dragon.constellation.html import page
from dragon.constellation.text import plain
from dragon.errors import LocalError

PATIENCE = 30.0
"""Seconds for each answer of the mail server."""

SMTP_PORT = 25

_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_SERVER = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::(?P<port>\d{1,5}))?")

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
"""Where `sendmail` lies that an ordinary user's PATH does not name."""


@dataclass(frozen=True, slots=True)
class Post:
    """Who is told, and by which way. `server` is host:port; None: by `sendmail`."""

    to: str
    sender: str
    server: str | None = None

    def __post_init__(self) -> None:
        for address in (self.to, self.sender):
            if not _ADDRESS.fullmatch(address):
                raise LocalError(f"{address!r} is no mail address", "set [constellation] mail_to and mail_from")
        if self.server is not None and not _SERVER.fullmatch(self.server):
            raise LocalError(f"{self.server!r} is no mail server", 'set [constellation] smtp = "host:port"')


def post_of(to: str | None, sender: str | None, server: str | None) -> Post | None:
    """Return the way of the settings; None where nobody is to be told. Raises `LocalError` for what is no address."""
    return Post(to, sender or to, server) if to else None


def message(document: Mapping[str, Any], post: Post) -> EmailMessage:
    """Return the report of a run as a mail."""
    failed = document["state"] in ("failed", "timeout") or document["peers_failed"] == document["peers_total"] > 0
    at = datetime.fromtimestamp(document["ended"] or document["started"]).strftime("%H:%M")
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = f"{'❌ Constellation Sync Failed' if failed else '✅ Constellation Sync Report'} - {at}"
    mail["From"], mail["To"], mail["Date"] = post.sender, post.to, localtime()
    mail["Message-ID"] = make_msgid(domain=post.sender.partition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail.set_content("\n".join(plain(document)) + "\n", cte="quoted-printable")
    mail.add_attachment(page(document).encode(), maintype="text", subtype="html", filename=f"sync-{document['run']}.html")
    return mail


def send(mail: EmailMessage, post: Post) -> str:
    """Send `mail` and return by which way it went. Blocks; raises `LocalError`."""
    if post.server is not None:
        return _by_smtp(mail, post.server)
    return _by_sendmail(mail, post)


def _by_smtp(mail: EmailMessage, server: str) -> str:
    match = _SERVER.fullmatch(server)
    assert match is not None
    host, port = match["six"] or match["name"], int(match["port"] or SMTP_PORT)
    try:
        with smtplib.SMTP(host, port, timeout=PATIENCE) as session:
            session.ehlo()
            if session.has_extn("starttls") and not _is_here(host):
                session.starttls(context=ssl.create_default_context())
            session.send_message(mail)
    except (smtplib.SMTPException, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LocalError(f"the mail server {server} did not take the report: {reason}", "see [constellation] smtp") from None
    return f"SMTP {server}"


def _by_sendmail(mail: EmailMessage, post: Post) -> str:
    program = shutil.which("sendmail") or next((path for path in SENDMAIL if Path(path).exists()), None)
    if program is None:
        raise LocalError("there is no sendmail command to mail the report with", 'set [constellation] smtp = "host:port"')
    try:
        done = subprocess.run(
            [program, "-i", "-f", post.sender, "--", post.to], input=mail.as_bytes(), capture_output=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"{program} did not take the report: {error}", 'set [constellation] smtp = "host:port"') from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[:200]
        raise LocalError(f"{program} did not take the report: {said or f'exit code {done.returncode}'}", "see its log")
    return program


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
