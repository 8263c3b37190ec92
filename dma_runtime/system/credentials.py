"""Secrets kept as systemd credentials: `/etc/dma/credentials/NAME.cred`, encrypted by systemd-creds(1) for this machine.

The store behind `keyring_backend`; `dma-secret@.service` loads the same files with LoadCredentialEncrypted=.

Rules:
- The directory is 0700, the files 0600, of root: what systemd-creds refuses to others anyway (before systemd 256).
- The key is `host`, or `host+tpm2` where `systemd-creds has-tpm2` is a full yes. Never `auto`: without a TPM some of its
  forms silently use a null key. Bound to the TPM, not to the state of the firmware: PCR 7, the default, changes with every
  update of the secure boot lists, and mail would stop with the next reboot. To no PCR at all where systemd can read that
  again (252 cannot), else to PCR 23, which is zero and nobody's.
- A file is written beside its place, read back through systemd-creds, synced and renamed: the old or the new, whole.
- systemd-creds deletes the host key, and with it every secret here, when it finds another machine-id than the one the
  key was made for. So that is looked at first, and nothing is started then: with the old machine-id all is well again.
- No secret is on a command line, in the environment or in a file in the clear; child processes get theirs by memfd.

Failures are Unusable, one line each. `os` only at the start; the program takes about 5 ms.
"""

from __future__ import annotations

import os

DIRECTORY = "/etc/dma/credentials"
PROGRAM = "/usr/bin/systemd-creds"
HOST_KEY = "/var/lib/systemd/credential.secret"
MACHINE_ID = "/etc/machine-id"
SUFFIX = ".cred"
LARGEST = 1 << 20  # bytes, systemd's limit for a credential

# systemd, src/shared/creds-util.c: the application id that the machine-id in credential.secret is hashed with.
_APPLICATION = bytes.fromhex("d3acecba0dad4cdfb8c9381528936c58")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "SYSTEMD_LOG_TARGET": "console"}


class Unusable(Exception):
    """The store cannot do what was asked; the text is one line."""


class Store:
    """`directory`, `program`, `host_key` and `machine_id` are the system's, or those of a test."""

    def __init__(
        self, directory: str = DIRECTORY, *, program: str = PROGRAM, host_key: str = HOST_KEY, machine_id: str = MACHINE_ID
    ) -> None:
        self.directory = directory
        self._program = program
        self._host_key = host_key
        self._machine_id = machine_id

    def path(self, name: str) -> str:
        """The file of the credential NAME. Raises Unusable for a name that no file or no credential can have."""
        if not name or "/" in name or ":" in name or name.startswith(".") or len(os.fsencode(name)) > 255 - len(SUFFIX):
            raise Unusable(f"{name!r} cannot be the name of a credential")
        return f"{self.directory}/{name}{SUFFIX}"

    def get(self, name: str) -> bytes | None:
        """The secret, None when there is none of that name. Raises Unusable."""
        path = self.path(name)
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}") from None
        return self._decrypt(name, path)

    def set(self, name: str, secret: bytes) -> None:
        """Store or replace. Raises Unusable; the old one is still there then."""
        path = self.path(name)
        if len(secret) > LARGEST:
            raise Unusable(f"a credential is at most {LARGEST} bytes")
        self._check()
        key = self.key()
        ways = [[f"--with-key={key}"]] if "tpm2" not in key else [[f"--with-key={key}", f"--tpm2-pcrs={at}"] for at in ("", "23")]
        for way in ways:
            try:
                sealed = self._run(["encrypt", *way, f"--name={name}", "-", "-"], secret)
                os.makedirs(self.directory, 0o700, exist_ok=True)
                os.chmod(self.directory, 0o700)
                self._write(name, path, sealed, secret)
                return
            except Unusable:
                if way is ways[-1]:
                    raise
            except OSError as error:
                raise Unusable(f"{error.filename or path}: {error.strerror}") from None

    def delete(self, name: str) -> bool:
        """Whether there was one. The directory goes with the last. Raises Unusable."""
        path = self.path(name)
        try:
            os.unlink(path)
            self._sync()
            if not os.listdir(self.directory):
                os.rmdir(self.directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}") from None
        return True

    def names(self) -> list[str]:
        """The credentials there are, sorted. Raises Unusable."""
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unusable(f"{self.directory}: {error.strerror}") from None
        return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX) and not name.startswith("."))

    # ------------------------------------------------------------ keys

    def key(self) -> str:
        """What to encrypt with: the TPM too where firmware, driver and system have it."""
        return "host+tpm2" if self._spawn(["has-tpm2"], b"")[0] == 0 else "host"

    def foreign_machine(self) -> bool:
        """Whether the host key was made for another machine-id: nothing here can be read, and a try would delete the key."""
        try:
            with open(self._host_key, "rb") as file:
                made_for = file.read(16)
            with open(self._machine_id, "rb") as file:
                present = bytes.fromhex(file.read(64).decode("ascii", "replace").strip())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        return made_for != _hashed(present)

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise Unusable("only root can use the machine's credentials")
        if not os.path.exists(self._program):
            raise Unusable(f"{self._program} is missing: this needs systemd 250 or newer")
        if self.foreign_machine():
            raise Unusable(
                f"{self._host_key} belongs to another {self._machine_id} (a copied machine?): put the old machine-id back,"
                f" or remove that file and store the password again"
            )

    # ------------------------------------------------------------ files and programs

    def _decrypt(self, name: str, path: str) -> bytes:
        self._check()
        return self._run(["decrypt", f"--name={name}", path, "-"], b"")

    def _write(self, name: str, path: str, sealed: bytes, secret: bytes) -> None:
        beside = f"{self.directory}/.{os.urandom(6).hex()}{SUFFIX}"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                left = memoryview(sealed)
                while left:
                    left = left[os.write(fd, left) :]
                os.fchmod(fd, 0o600)
                os.fsync(fd)
            finally:
                os.close(fd)
            if self._decrypt(name, beside) != secret:
                raise Unusable(f"{path}: systemd-creds did not give back what was stored")
            os.rename(beside, path)
        except BaseException:
            try:
                os.unlink(beside)
            except FileNotFoundError:
                pass
            raise
        self._sync()

    def _sync(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _run(self, words: list[str], given: bytes) -> bytes:
        """What systemd-creds prints. Raises Unusable with the last line of its complaint."""
        status, printed, complaint = self._spawn(words, given)
        if status == 0:
            return printed
        lines = [line for line in complaint.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"status {status}"
        raise Unusable(f"systemd-creds {words[0]}: {reason}"[:300])

    def _spawn(self, words: list[str], given: bytes) -> tuple[int, bytes, bytes]:
        """(exit status, output, errors). Files in memory stand for the three streams, so nobody waits for anybody."""
        files = [os.memfd_create(name) for name in ("given", "output", "errors")]
        try:
            left = memoryview(given)
            while left:
                left = left[os.write(files[0], left) :]
            os.lseek(files[0], 0, os.SEEK_SET)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
            try:
                child = os.posix_spawn(self._program, [self._program, *words], _ENVIRONMENT, file_actions=actions)
            except OSError as error:
                raise Unusable(f"{self._program}: {error.strerror}") from None
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return status, _content(files[1]), _content(files[2])
        finally:
            for fd in files:
                os.close(fd)


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _hashed(machine_id: bytes) -> bytes:
    """sd_id128_get_machine_app_specific(3) of systemd-creds: HMAC-SHA256, made a version 4 UUID."""
    import hashlib
    import hmac

    found = bytearray(hmac.new(machine_id, _APPLICATION, hashlib.sha256).digest()[:16])
    found[6] = found[6] & 0x0F | 0x40
    found[8] = found[8] & 0x3F | 0x80
    return bytes(found)
