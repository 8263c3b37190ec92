"""Whose files may be acted on. Ownership is told by a table, so that root and anyone else can run this."""

import os
import stat

import pytest

from dma_runtime.system.trust import distrust


def tree(tmp_path, **special):
    """An lstat for which everything belongs to root with mode 0755/0644, except what `special` says of base names."""

    def lstat(path):
        real = os.lstat(path)
        uid, mode = special.get(os.path.basename(path) or "root", (0, None))
        if mode is None:
            mode = 0o755 if stat.S_ISDIR(real.st_mode) else 0o644
        fields = list(real)
        fields[0], fields[4] = stat.S_IFMT(real.st_mode) | mode, uid
        return os.stat_result(fields)

    return lstat


@pytest.fixture
def path(tmp_path):
    (tmp_path / "above" / "folder").mkdir(parents=True)
    (tmp_path / "above" / "folder" / "file").write_text("x")
    (tmp_path / "link").symlink_to("above/folder/../folder")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


WAYS = ["above/folder/file", "link/file", "absolute/file", "above//./folder/file", "link/../folder/file"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("special", "reason"),
    [
        ({}, ""),
        ({"file": (1000, 0o644)}, "file belongs to uid 1000"),
        ({"file": (0, 0o664)}, "file can be written by others"),
        ({"file": (0, 0o646)}, "file can be written by others"),
        ({"above": (1000, 0o755)}, "above belongs to uid 1000, not to root"),
        ({"folder": (0, 0o775)}, "folder can be written by others"),
        ({"folder": (0, 0o757)}, "folder can be written by others"),
        ({"folder": (0, 0o1777)}, ""),
        ({"root": (1000, 0o755)}, "directory / belongs to uid 1000"),
    ],
)
def test_root(path, way, special, reason):
    found = distrust(f"{path}/{way}", 0, lstat=tree(path, **special))
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_link_of_somebody_else(path):
    found = distrust(f"{path}/absolute/file", 0, lstat=tree(path, link=(1000, 0o777)))
    assert "link belongs to uid 1000, not to root" in found


def test_a_loop_ends(path):
    assert "loop of links" in distrust(f"{path}/loop/file", 0, lstat=tree(path))


def test_what_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        distrust(f"{path}/nothing", 0, lstat=tree(path))
    with pytest.raises(FileNotFoundError):
        distrust(f"{path}/nothing", 1000)


def test_anyone_else(path):
    mine = os.getuid()
    file = path / "above" / "folder" / "file"
    assert distrust(str(file), mine or 1000) == ""
    file.chmod(0o646)
    assert "can be written by others" in distrust(str(file), mine or 1000)
    file.chmod(0o644)
    if mine != 0:
        assert f"belongs to uid {mine}" in distrust(str(file), mine + 1)
    else:
        os.chown(file, 1001, -1)
        assert "belongs to uid 1001" in distrust(str(file), 1000)
