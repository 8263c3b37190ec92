"""The queue of C dma, written exactly as its spool.c does (docs/compatibility.md, section 5).

    left = Left(directory)
    left.message("me@old.test", ["a@x.test", "b@y.test"], b"Subject: x\\n\\nhello\\n", age=3600)

One pair of files a recipient; the M files of one submission are hard links to one file.
"""

import os
import time

MESSAGE = (
    b"Received: from root (uid 0)\n"
    b"\t(envelope-from me@old.test)\n"
    b"\tid 21205a\n"
    b"\tby old.test (DragonFly Mail Agent v0.13);\n"
    b"\tMon, 23 Nov 2026 01:13:02 +0000\n"
    b"Subject: from before\n"
    b"Date: Mon, 23 Nov 2026 01:13:02 +0000\n"
    b"Message-Id: <6b03931e.21205a.41fd47ce@old.test>\n"
    b"From: <me@old.test>\n"
    b"\n"
    b"hello\n"
    b".dot\n"
)


class Left:
    def __init__(self, directory):
        self.directory = str(directory)
        self._pointer = 0x5585772D4250

    def message(self, sender="me@old.test", recipients=("bob@example.org",), text=MESSAGE, *, age=0.0):
        """One submission; the names of its pairs, without Q or M."""
        temporary = f"{self.directory}/tmp_submit{self._pointer:x}"
        with open(temporary, "wb") as file:
            file.write(text)
        os.chmod(temporary, 0o660)
        inode, names = os.stat(temporary).st_ino, []
        for recipient in recipients:
            names.append(f"{inode:x}.{self._pointer:x}")
            self._pointer += 0x80
            self.queue_file(names[-1], f"ID: {names[-1]}\nSender: {sender}\nRecipient: {recipient}\n".encode(), age=age)
            os.link(temporary, f"{self.directory}/M{names[-1]}")
        os.unlink(temporary)
        return names

    def queue_file(self, name, text, *, age=0.0):
        path = f"{self.directory}/Q{name}"
        with open(path, "wb") as file:
            file.write(text)
        os.chmod(path, 0o660)
        when = time.time() - age
        os.utime(path, (when, when))
        return path
