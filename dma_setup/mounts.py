"""Is a directory on a file system that other machines have too? From /proc/self/mountinfo, proc(5)."""

from __future__ import annotations

import os

TABLE = "/proc/self/mountinfo"
SHARED = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "coda", "ceph", "lustre", "gpfs", "gfs2", "ocfs2", "orangefs"),
    *("9p", "virtiofs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.s3fs", "fuse.davfs"),
}


def is_shared(path: str) -> bool:
    """False too where nobody can say."""
    real, best, kind = os.path.realpath(path), -1, ""
    try:
        with open(TABLE, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    for line in lines:
        left, _, right = line.partition(" - ")
        words, kinds = left.split(" "), right.split(" ")
        if len(words) < 5 or not kinds[0]:
            continue
        point = _unescaped(words[4])
        holds = real == point or real.startswith(point.rstrip("/") + "/")
        if holds and len(point) >= best:  # of two at one place the later covers the earlier
            best, kind = len(point), kinds[0]
    return kind in SHARED


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
