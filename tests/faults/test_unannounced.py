"""A message whose submitter was killed before it rang: the owner who stays finds it within a slice."""

import os
import signal
import subprocess
import sys
import time

import mail_server

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.system.ownership import ring
from dma_runtime.system.spool import Spool

DAEMON = """
import sys
from dma_runtime.cmd import daemon
from dma_runtime.delivery import owner
owner.SLICE = 0.2
sys.exit(daemon.main())
"""


def test_the_owner_finds_what_nobody_announced(tmp_path):
    with mail_server.MailServer() as server:
        conf = tmp_path / "dma.conf"
        conf.write_text(f"MAILNAME here.test\nSPOOLDIR {tmp_path}/spool\nSMARTHOST 127.0.0.1:{server.port}\n")
        spool = Spool(str(tmp_path / "spool"))
        spool.prepare(own_only=True)
        daemon = subprocess.Popen([sys.executable, "-c", DAEMON, "-C", str(conf)], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 20
            while not ring(spool, b'{"do":"list"}\n'):  # it listens now, and has listed the queue soon
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.5)
            envelope = Envelope("", "me@home.test", [Recipient("good@there.test")], time.time())
            draft = spool.draft(envelope)
            draft.write(b"Subject: unannounced\n\nx\n")
            draft.commit(envelope)
            assert server.wait(1)[0].recipients == ["good@there.test"]
        finally:
            os.kill(daemon.pid, signal.SIGTERM)
            errors = daemon.communicate(timeout=30)[1]
        assert b"Traceback" not in errors
