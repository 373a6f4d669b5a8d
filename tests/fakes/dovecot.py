"""A real dovecot on loopback ports for tests: IMAP and LMTP, any user with the password `secret`, maildirs in a
temporary folder. Needs the Debian packages dovecot-imapd and dovecot-lmtpd, and root (dovecot switches users).
"""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest

PASSWORD = "secret"
_BINARIES = ("/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp")

_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = {ssl}
{tls}
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{home}/mail/%n
auth_username_format = %Ln
recipient_delimiter = +
mailbox_idle_check_interval = 1s
imap_capability = {capability}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%n allow_all_users=yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp_port}
  }}
}}
service stats {{
  chroot =
}}
"""


class Dovecot:
    """Use as a context manager. `lmtp_port` and `imap_port` are free ports found at start."""

    def __init__(self, *, idle: bool = True, tls_pem: Path | None = None) -> None:
        for binary in _BINARIES:
            if not os.access(binary, os.X_OK):
                pytest.skip(f"DOVECOT MISSING ({binary}): apt-get install dovecot-imapd dovecot-lmtpd")
        if os.geteuid() != 0:
            pytest.skip("DOVECOT NEEDS ROOT to switch users; the IMAP tests did not run")
        self._idle, self._tls_pem = idle, tls_pem
        self.home = Path()
        self.imap_port = self.lmtp_port = 0

    def __enter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="switchboard-dovecot-"))
        self.home.chmod(0o755)
        owner = pwd.getpwnam("mail")
        (self.home / "mail").mkdir()
        os.chown(self.home / "mail", owner.pw_uid, owner.pw_gid)
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            self.imap_port, self.lmtp_port = one.getsockname()[1], two.getsockname()[1]
        tls = ""
        if self._tls_pem is not None:
            shutil.copy(self._tls_pem, self.home / "tls.pem")
            (self.home / "tls.pem").chmod(0o600)
            tls = f"ssl_cert = <{self.home}/tls.pem\nssl_key = <{self.home}/tls.pem"
        capability = "" if self._idle else "IMAP4rev1 LITERAL+ UIDPLUS"
        config = self.home / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                home=self.home,
                ssl="yes" if tls else "no",
                tls=tls,
                password=PASSWORD,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                imap_port=self.imap_port,
                lmtp_port=self.lmtp_port,
                capability=capability,
            ).replace("imap_capability = \n", "")
        )
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self.home, ignore_errors=True)

    def restart(self) -> None:
        """Stop and start on the same ports; open connections break."""
        self._end()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/sbin/dovecot", "-F", "-c", str(self.home / "dovecot.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._wait_until_up()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stderr.close()

    def log(self) -> str:
        path = self.home / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def maildir(self, user: str, folder: str = "") -> Path:
        return self.home / "mail" / user / (f".{folder}" if folder else "")

    async def deliver(self, user: str, raw: bytes) -> None:
        """Through LMTP, as a mail server would."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.lmtp_port)
        try:
            await _expect(reader, b"220")
            for command in (b"LHLO test", b"MAIL FROM:<sender@test.example>", f"RCPT TO:<{user}>".encode()):
                writer.write(command + b"\r\n")
                await _expect(reader, b"250")
            writer.write(b"DATA\r\n")
            await _expect(reader, b"354")
            body = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..")
            writer.write(body.rstrip(b"\r\n") + b"\r\n.\r\n")
            await _expect(reader, b"250")
        finally:
            writer.close()
            await writer.wait_closed()

    async def command(self, user: str, *commands: str) -> list[bytes]:
        """Run IMAP commands as another client of the same mailbox would; the lines of all answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.imap_port)
        lines: list[bytes] = []
        try:
            await reader.readline()
            for number, command in enumerate((f"LOGIN {user} {PASSWORD}", *commands)):
                writer.write(f"t{number} {command}\r\n".encode())
                while True:
                    line = await reader.readline()
                    lines.append(line)
                    if line.startswith(f"t{number} ".encode()):
                        assert b" OK" in line, (command, line)
                        break
                    assert line, (command, lines)
            return lines
        finally:
            writer.close()
            await writer.wait_closed()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                pytest.fail(f"dovecot ended: {self._process.stderr.read().decode()} {self.log()}")
            try:
                for port in (self.imap_port, self.lmtp_port):
                    socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail(f"dovecot did not start: {self.log()}")


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readline()
        assert line.startswith(code), (code, line)
        if line[3:4] != b"-":
            return
