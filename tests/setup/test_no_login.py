"""A relay that wants no login: what is set up sends, and names no file that is not there."""

from mail_server import MailServer
from setup_home import Home, relay


def test_mail_leaves_without_a_login(tmp_path):
    home = Home(tmp_path / "home")
    with MailServer() as server:
        answers = f'host: 127.0.0.1:{server.port}\nlogin: ""\nsender: alice@example.org\nroot_mail: bob@example.org\n'
        done = home.run("smarthost", "--user", "--answers", home.answers(answers), "--yes")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert [message.recipients for message in server.messages] == [["bob@example.org"]]
    assert "AUTHPATH" not in (home.path / ".config/dma/dma.conf").read_text()


def test_a_relay_with_a_login_keeps_its_file_when_the_next_has_none(tmp_path):
    home = Home(tmp_path / "home")
    with MailServer(tls="starttls", users={"alice": home.environment["DMA_PW"]}) as server:
        words = ("smarthost", "--user", "--yes", "--no-test", "--answers")
        assert home.run(*words, home.answers(relay(server))).returncode == 0
    with MailServer() as server:
        answers = f'host: 127.0.0.1:{server.port}\nlogin: ""\nsender: alice@example.org\nroot_mail: bob@example.org\n'
        assert home.run("smarthost", "--user", "--yes", "--answers", home.answers(answers)).returncode == 0
        assert len(server.messages) == 1
