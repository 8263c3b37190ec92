"""The machine's credentials with a TPM: swtpm on loopback in the place of the chip, systemd-creds and our store as they are.

Only `has-tpm2`, which looks for a driver in the kernel, is answered by the wrapper that names the TPM's address.
"""

import shutil
import socket
import struct
import subprocess
import time

import pytest
from private_machine import PrivateMachine

LIBRARY = "libtss2-tcti-swtpm.so.0"


def needed():
    if shutil.which("swtpm") is None:
        pytest.skip("needs a TPM in software: apt install swtpm")
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    for name, package in (
        (LIBRARY, "libtss2-tcti-swtpm0"),
        ("libtss2-esys.so.0", "libtss2-esys-3.0.2-0"),
        ("libtss2-rc.so.0", "libtss2-rc0"),
    ):
        if name not in known:
            pytest.skip(f"needs {name}: apt install {package}")


class Tpm:
    """A chip: its state lies in `folder`."""

    def __init__(self, folder):
        folder.mkdir()
        self.port = self._ports()
        address = "type=tcp,bindaddr=127.0.0.1,port="
        self.process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "startup-clear,not-need-init",
             "--server", f"{address}{self.port},disconnect", "--ctrl", f"{address}{self.port + 1}"],
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port + 1), 1).close()
                break
            except OSError:
                assert self.process.poll() is None, "swtpm ended"
                assert time.monotonic() < deadline, "swtpm does not listen"
                time.sleep(0.05)

    @staticmethod
    def _ports():
        """Two free ports in a row: commands, and control, as the library expects them."""
        while True:
            with socket.socket() as first, socket.socket() as second:
                first.bind(("127.0.0.1", 0))
                port = first.getsockname()[1]
                try:
                    second.bind(("127.0.0.1", port + 1))
                    return port
                except (OSError, OverflowError):
                    continue

    def extend(self, register):
        """What firmware does at every start: TPM2_PCR_Extend (TPM 2.0 part 3, 22.2) with an empty password."""
        session = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
        body = struct.pack(">I", register) + struct.pack(">I", len(session)) + session
        body += struct.pack(">IH", 1, 0x000B) + b"\x42" * 32
        command = struct.pack(">HII", 0x8002, 10 + len(body), 0x182) + body
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            line.sendall(command)
            answer = line.recv(4096)
        assert struct.unpack(">HII", answer[:10])[2] == 0, answer.hex()

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def machine(tmp_path):
    needed()
    return PrivateMachine(tmp_path)


@pytest.fixture
def chip(tmp_path):
    needed()
    made = Tpm(tmp_path / "chip")
    yield made
    made.stop()


def wrapper(machine, chip):
    """systemd-creds as it is on a machine with that chip."""
    path = machine.folder / "systemd-creds"
    path.write_text(
        "#!/bin/sh\n[ $1 = has-tpm2 ] && exit 0\n"
        f'SYSTEMD_TPM2_DEVICE=swtpm:host=127.0.0.1,port={chip.port} exec systemd-creds "$@"\n'
    )
    path.chmod(0o755)
    return path


def run(machine, chip, code):
    return machine.run(f"store._program = {str(wrapper(machine, chip))!r}\n{code}").strip()


STORE = "store.set('dma.h.a', 'p\\u00e4ssword'.encode())\nprint(store.key())"
READ = "print(store.get('dma.h.a').decode())"
TRY = "try:\n  " + READ + "\nexcept Unusable as problem:\n  print('unusable:', problem)"


def test_what_the_chip_sealed_it_opens(machine, chip):
    assert run(machine, chip, STORE) == "host+tpm2"
    assert run(machine, chip, READ) == "pässword"


def test_a_copy_of_the_disk_is_useless_without_the_chip(machine, chip, tmp_path):
    """Key, machine-id and credential are all there; the chip is another one."""
    run(machine, chip, STORE)
    another = Tpm(tmp_path / "another")
    try:
        assert run(machine, another, TRY).startswith("unusable: systemd-creds decrypt:")
    finally:
        another.stop()
    assert run(machine, chip, READ) == "pässword", "nothing was spoilt by the try"


def test_an_update_of_the_firmware_does_not_stop_mail(machine, chip):
    """PCR 7 holds what secure boot trusts, and changes with every update of its lists."""
    chip.extend(7)
    run(machine, chip, STORE)
    chip.extend(7)
    assert run(machine, chip, TRY) == "pässword"
