"""Reports by mail: through a real SMTP conversation on loopback, and through a `sendmail` command."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from dragon.constellation.mail import Post, message, post_of, send
from dragon.constellation.outcome import PeerOutcome
from dragon.errors import LocalError
from tests.testbed.ports import free_port
from tests.unit.constellation.smtp_sink import smtp_sink
from tests.unit.constellation.test_report import HOSTILE, a_report


def sent(report: dict[str, Any]) -> tuple[EmailMessage, str, list[str]]:
    with smtp_sink() as sink:
        post = Post("captain@example.org", "dragon@example.org", f"127.0.0.1:{sink.port}")
        assert send(message(report, post), post) == f"SMTP 127.0.0.1:{sink.port}"
        (mail,) = sink.mails
        return mail, sink.sender, sink.recipients


def test_the_mail_says_it_in_text_and_carries_the_page() -> None:
    mail, sender, recipients = sent(a_report())
    assert (sender, recipients) == ("dragon@example.org", ["captain@example.org"])
    assert mail["Subject"].startswith("✅ Constellation Sync Report - ")
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "90 new" in body.get_content()
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "sync-20261127T030000Z.html"
    assert attached.get_content_type() == "text/html"
    assert "<svg" in attached.get_payload(decode=True).decode()  # type: ignore[union-attr]


@pytest.mark.parametrize("state", ["failed", "timeout"])
def test_a_failed_run_is_told_as_one(state: Any) -> None:
    mail, _, _ = sent(a_report(state=state, error="our own relay is away"))
    assert mail["Subject"].startswith("❌ Constellation Sync Failed - ")


def test_what_peers_say_reaches_no_header() -> None:
    peer = PeerOutcome(HOSTILE, HOSTILE + "\r\nBcc: everybody@example.org", state="failed", error="x\r\n.\r\nMAIL FROM:<x@y>")
    mail, _, recipients = sent(a_report(peers=[peer], error=HOSTILE))
    assert recipients == ["captain@example.org"]
    assert mail["Bcc"] is None
    assert len(mail.keys()) == len(set(mail.keys()))


@pytest.mark.parametrize("refusal", ["550 nobody here", "450 later"])
def test_a_server_that_refuses_is_told(refusal: str) -> None:
    with smtp_sink(refusal) as sink:
        post = Post("captain@example.org", "dragon@example.org", f"127.0.0.1:{sink.port}")
        with pytest.raises(LocalError, match="did not take the report"):
            send(message(a_report(), post), post)
        assert not sink.mails


def test_a_server_that_is_away_is_told() -> None:
    post = Post("captain@example.org", "dragon@example.org", f"127.0.0.1:{free_port()}")
    with pytest.raises(LocalError, match="Connection refused"):
        send(message(a_report(), post), post)


def test_without_a_server_the_sendmail_command_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    post = Post("captain@example.org", "dragon@example.org")
    assert send(message(a_report(), post), post) == str(program)
    assert (tmp_path / "words").read_text().split() == ["-i", "-f", "dragon@example.org", "--", "captain@example.org"]
    mail = message_from_bytes((tmp_path / "mail").read_bytes(), policy=policy.default)
    assert mail["To"] == "captain@example.org"
    program.write_text("#!/bin/sh\necho no queue >&2\nexit 75\n")
    with pytest.raises(LocalError, match="no queue"):
        send(message(a_report(), post), post)


@pytest.mark.parametrize(
    ("to", "sender", "server"),
    [
        ("captain", None, None),
        ("a@b\r\nBcc: x@y", None, None),
        ("-oQ/tmp@example.org", None, None),
        ("a@example.org", "x y@z", None),
        ("a@example.org", None, "host:port"),
        ("a@example.org", None, "host\r\n"),
    ],
)
def test_what_is_no_address_is_told(to: str, sender: str | None, server: str | None) -> None:
    with pytest.raises(LocalError, match=r"no mail (address|server)"):
        post_of(to, sender, server)


def test_nobody_is_told_unless_asked_for() -> None:
    assert post_of(None, None, "mail.example.org") is None
    assert post_of("a@example.org", None, "[::1]:2525") == Post("a@example.org", "a@example.org", "[::1]:2525")
