"""Places for `doctor` to look at: a home or a machine's tree with these settings, and commands that print what a test says."""

import pathlib
import time

from provisioning import Machine, home_place

from dma_setup import present
from dma_setup.checkup.finding import Patient
from dma_setup.system import Ran


class Words(Machine):
    """A machine on which commands print what the test says."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def run(self, words, given="", seconds=20, environment=None):
        for start, text in self.said.items():
            if " ".join(words).startswith(start):
                return Ran(0, text, "")
        return Ran(1, "", "")


def patient(
    tmp_path,
    conf="SMARTHOST relay.example.org\nPORT 587\nSECURETRANSFER\nSTARTTLS\n",
    *,
    auth="",
    said=(),
    online=False,
    now=None,
    system=False,
):
    home = tmp_path / "home"
    place = home_place(home)
    if system:
        from dma_setup import place as places

        place = places.for_system(str(home))
    config = pathlib.Path(place.at(place.config))
    config.mkdir(parents=True)
    spool = home / "spool"
    spool.mkdir(mode=0o700)
    (config / "dma.conf").write_text(f"SPOOLDIR {spool if not system else '/spool'}\n{conf}")
    (config / "dma.conf").chmod(0o600)
    (config / "auth.conf").write_text(auth)
    (config / "auth.conf").chmod(0o600)
    words = Words(dict(said))
    return Patient(place, words, present.read(place, words), online, time.time() if now is None else now)


def only(findings):
    found = list(findings)
    assert len(found) == 1, found
    return found[0]
