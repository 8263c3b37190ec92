"""The file system that a directory is on, and whether other machines have it too. From /proc/self/mountinfo, proc(5)."""

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
    return file_system(path)[0] in SHARED


def file_system(path: str) -> tuple[str, str]:
    """(type, mount point) of the file system `path` is on; ("", "") where nobody can say."""
    best = ("", "")
    real = os.path.realpath(path)
    try:
        with open(TABLE, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return best
    for line in lines:
        fields, _, more = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < 5:
            continue
        point = _unescaped(words[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[1]):  # of two at one place the later covers the earlier
            best = (more.split(" ")[0], point)
    return best


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
