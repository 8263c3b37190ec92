"""Names of keyrings, services and credentials."""

import pytest

from dma_runtime import keyrings


def test_backends():
    assert keyrings.backend("secret-service") == "keyring.backends.SecretService.Keyring"
    assert keyrings.backend("KWallet") == "dma_runtime.system.keyring_kwallet.Keyring"
    assert keyrings.backend("keyrings.alt.file.PlaintextKeyring") == "keyrings.alt.file.PlaintextKeyring"


@pytest.mark.parametrize("name", ["", "gnome", "a.b c", "os.system('x').y", ".x", "x.", "a..b", "a.b;c"])
def test_no_backend(name):
    with pytest.raises(ValueError, match="secret-service, kwallet, pass, systemd-creds or a backend class"):
        keyrings.backend(name)


def test_service():
    assert keyrings.service("SMTP.Example.Org.") == "dma:smtp.example.org"


@pytest.mark.parametrize(
    ("host", "login", "name"),
    [
        ("smtp.gmail.com", "alice@gmail.com", "dma.smtp.gmail.com.alice@gmail.com"),
        ("SMTP.example.org.", "a+b-c", "dma.smtp.example.org.a+b-c"),
        ("::1", "a/b:c", "dma._3A_3A1.a_2Fb_3Ac"),
        ("h", "ä_", "dma.h._C3_A4_5F"),
        ("h", "../x\n", "dma.h..._2Fx_0A"),
    ],
)
def test_credential(host, login, name):
    assert keyrings.credential(host, login) == name
