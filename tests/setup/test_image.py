"""`--root`: links in the tree mean what they mean in there, and nothing outside it is read or written."""

import os

import pytest
from mail_server import MailServer
from provisioning import home_place, tree
from setup_home import PASSWORD, Home, relay

from dma_setup.errors import SetupError
from dma_setup.image import inside


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "image"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("links", "path", "found"),
    [
        ({}, "/etc/dma/dma.conf", "/etc/dma/dma.conf"),
        ({"var": "/data"}, "/var/spool/dma", "/data/spool/dma"),
        ({"var": "/data", "data": "mnt/../disk"}, "/var/spool", "/disk/spool"),
        ({"sbin": "usr/sbin"}, "/sbin/sendmail", "/usr/sbin/sendmail"),
        ({"up": "../../../.."}, "/up/etc/passwd", "/etc/passwd"),
        ({"etc": "/../../etc"}, "/etc", "/etc"),
        ({"etc": "/elsewhere"}, "/etc", "/etc"),
    ],
)
def test_where_a_path_of_an_image_is(root, links, path, found):
    for name, target in links.items():
        (root / name).symlink_to(target)
    assert inside(str(root), path) == str(root) + found
    assert inside("", path) == path


def test_the_end_is_followed_only_when_wanted(root):
    (root / "a").symlink_to("/b")
    (root / "b").symlink_to("c")
    assert inside(str(root), "/a") == f"{root}/a"
    assert inside(str(root), "/a", follow=True) == f"{root}/c"
    (root / "loop").symlink_to("/loop")
    with pytest.raises(SetupError, match="is a loop of links"):
        inside(str(root), "/loop/x")


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_an_image_whose_links_are_absolute(home, root, tmp_path):
    """/var, /etc/aliases and the directory of programs are links to absolute paths, as on some systems and in many images."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("etc/mail", "data/lib", "usr/real-sbin"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/mail/aliases").write_text("postmaster: root\n")
    (root / "etc/aliases").symlink_to("/etc/mail/aliases")
    (root / "var").symlink_to("/data")
    (root / "usr/sbin").symlink_to("/usr/real-sbin")
    (root / "usr/lib").symlink_to(outside)  # a link that leads out, if it is followed from here
    (root / str(outside).lstrip("/")).mkdir(parents=True)
    before = tree(root)
    answers = home.answers("host: relay.example.org\nroot_mail: bob@example.org\n")
    words = ("smarthost", "--root", str(root), "--answers", answers)
    done = home.run(*words, "--yes", "--no-verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "etc/mail/aliases").read_text() == "postmaster: root\nroot: bob@example.org\n"
    assert os.readlink(root / "etc/aliases") == "/etc/mail/aliases"
    assert (root / "data/spool/dma").is_dir()
    assert os.readlink(root / "usr/real-sbin/sendmail") == "/usr/local/lib/dma/dma"
    assert list(outside.iterdir()) == []
    assert home.run(*words, "--check").returncode == 0
    doctor = home.run("doctor", "--root", str(root))
    assert "do not reach dma" not in doctor.stdout, doctor.stdout
    assert home.run("undo", "--root", str(root)).returncode == 0
    after = tree(root, without=("data/lib/dma-setup",))
    left = {name: what for name, what in after.items() if before.get(name) != what}
    assert left == {}


def test_a_dma_conf_that_is_a_link_is_read_through_it(home, tmp_path):
    """Dotfiles: every verb reads the file behind the link, not the link's own text."""
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        dotfiles = tmp_path / "dotfiles"
        dotfiles.mkdir()
        config = home.path / ".config/dma"
        config.mkdir(parents=True)
        for name in ("dma.conf", "auth.conf"):
            (dotfiles / name).write_text("# mine\n")
            (dotfiles / name).chmod(0o600)
            (config / name).symlink_to(dotfiles / name)
        answers = home.answers(relay(server))
        done = home.run("smarthost", "--user", "--answers", answers, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (config / "dma.conf").is_symlink()
        assert "SMARTHOST localhost" in (dotfiles / "dma.conf").read_text()
        assert home.run("secret", "check", "--user").returncode == 0
        doctor = home.run("doctor", "--user")
        assert f"mail goes to localhost:{server.port}" in " ".join(doctor.stdout.split())
        check = home.run("smarthost", "--user", "--answers", str(config / "answers.smarthost.yml"), "--check")
        assert (check.returncode, check.stderr) == (0, "")
        assert home_place(home.path).at(str(config / "dma.conf"), follow=True) == str(dotfiles / "dma.conf")


def test_a_password_in_the_image_is_read_as_its_own_account_will(home, root):
    """It is the image's account `dma` that counts, which may be unknown here or have another number."""
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nx:x:999:999::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nx:x:999:\n")
    here = ("--root", str(root))
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        done = home.run("smarthost", *here, "--answers", home.answers(relay(server)), "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        check = home.run("secret", "check", *here)
        assert (check.returncode, check.stderr) == (0, ""), check.stdout
        assert "the password of alice can be read" in " ".join(home.run("doctor", *here).stdout.split())
        saved = ("smarthost", *here, "--answers", str(root / "etc/dma/answers.smarthost.yml"), "--check")
        assert home.run(*saved).returncode == 0, "it is the one that is stored already"
        again = f"smarthost --root {root} --answers {root}/etc/dma/answers.smarthost.yml"
        assert again in " ".join(home.run("doctor", *here).stdout.split()), "not the file of that name on this machine"
        same = home.run("secret", "rotate", *here, given=PASSWORD + "\n")
        assert (same.returncode, same.stderr) == (1, "dma-setup: that is the password in use already; nothing was changed\n")
        path = root / "etc/dma/secrets/dma.localhost.alice"
        path.chmod(0o644)
        assert "can be read or changed by others (mode 0644)" in home.run("secret", "check", *here).stderr
        path.chmod(0o600)
        said = home.run("secret", "check", *here)
        if os.getuid() == 0:
            assert f"cannot be read by dma (mode 0600, group {path.stat().st_gid})" in said.stderr
            assert f"chown 0:{path.stat().st_gid} {path} && chmod 640 {path}" in said.stderr
        path.write_text("")
        path.chmod(0o640)
        assert "dma.localhost.alice: empty" in home.run("secret", "check", *here).stderr
        path.unlink()
        assert "no such file" in home.run("secret", "check", *here).stderr


def test_what_doctor_says_of_an_image_is_done_to_the_image(home, root):
    """`sudo tee -a /etc/aliases` would give this machine's root mail to somebody."""
    (root / "etc/dma").mkdir(parents=True)
    (root / "etc/dma/dma.conf").write_text("SMARTHOST relay.example.org\nPORT 587\nNOSUCH thing\n")
    (root / "etc/mailname").write_text("localhost\n")
    said = home.run("doctor", "--root", str(root)).stdout
    commands = [line.strip() for line in said.splitlines() if line.startswith("    -> ") and "sudo" in line]
    assert len(commands) >= 4, said
    assert [line for line in commands if str(root) not in line] == []
