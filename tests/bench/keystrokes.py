"""What a person types from an installed program to a delivered message by Gmail, word by word, in five ways.

The password is typed as its 16 letters everywhere, an editor costs three keys beside its command line (save, confirm, leave),
and Enter is one. Reading documentation costs nothing here, though only one of them tells what the others want to be known.
"""

ADDRESS, PASSWORD = "alice@gmail.com", "abcdefghijklmnop"
EDIT = 3
TEST = "printf 'Subject: test\\n\\ntest\\n' | sendmail root"


class Way:
    """`typed`: (kind, text): a command, an answer to a question, or the lines of a file."""

    def __init__(self, name, *typed):
        self.name = name
        self.typed = typed

    def count(self, kind):
        return sum(one == kind for one, _ in self.typed)

    @property
    def keys(self):
        return sum(len(text) + (EDIT if kind == "file" else 1) for kind, text in self.typed)


def _edited(path, *lines):
    return ("command", f"sudo nano {path}"), ("file", "".join(line + "\n" for line in lines))


WAYS = [
    Way(
        "dma-setup gmail",
        ("command", "sudo dma-setup gmail"),
        ("answer", ADDRESS),
        ("answer", PASSWORD),
        ("answer", ""),  # who reads root's mail: the address, as offered
        ("confirm", ""),  # Apply? It sends the message and shows Gmail's reply
    ),
    Way(
        "C dma by hand",
        *_edited(
            "/etc/dma/dma.conf",
            "SMARTHOST smtp.gmail.com", "PORT 587", "AUTHPATH /etc/dma/auth.conf", "SECURETRANSFER", "STARTTLS",
            f"MASQUERADE {ADDRESS}", "MAILNAME /etc/mailname",
        ),
        *_edited("/etc/dma/auth.conf", f"{ADDRESS}|smtp.gmail.com:{PASSWORD}"),
        ("command", "sudo chown root:mail /etc/dma/auth.conf"),
        ("command", "sudo chmod 640 /etc/dma/auth.conf"),
        *_edited("/etc/aliases", f"root: {ADDRESS}"),
        ("command", TEST),
        ("command", "sudo journalctl -t dma -n 20"),
    ),
    Way(
        "msmtp",
        *_edited(
            "/etc/msmtprc",
            "defaults", "auth on", "tls on", "aliases /etc/aliases", "syslog on", "account default", "host smtp.gmail.com",
            "port 587", f"from {ADDRESS}", f"user {ADDRESS}", f"password {PASSWORD}",
        ),
        ("command", "sudo chown root:msmtp /etc/msmtprc"),
        ("command", "sudo chmod 640 /etc/msmtprc"),
        *_edited("/etc/aliases", f"root: {ADDRESS}"),
        ("command", TEST),
    ),
    Way(
        "Postfix",
        ("command", "sudo postconf -e 'relayhost = [smtp.gmail.com]:587' smtp_sasl_auth_enable=yes smtp_tls_security_level=encrypt "
                    "smtp_sasl_password_maps=hash:/etc/postfix/sasl_passwd smtp_sasl_security_options=noanonymous"),
        *_edited("/etc/postfix/sasl_passwd", f"[smtp.gmail.com]:587 {ADDRESS}:{PASSWORD}"),
        ("command", "sudo chmod 600 /etc/postfix/sasl_passwd"),
        ("command", "sudo postmap /etc/postfix/sasl_passwd"),
        *_edited("/etc/aliases", f"root: {ADDRESS}"),
        ("command", "sudo newaliases"),
        ("command", "sudo systemctl reload postfix"),
        ("command", TEST),
        ("command", "sudo journalctl -u postfix -n 20"),
    ),
    Way(
        "an Ansible role for Postfix",
        ("command", "ansible-galaxy install example.postfix"),
        *_edited(
            "relay.yml",
            "- hosts: all", "  become: true", "  roles:", "    - role: example.postfix", "      vars:",
            "        postfix_relayhost: smtp.gmail.com", "        postfix_relayhost_port: 587",
            "        postfix_sasl_auth_enable: true", f"        postfix_sasl_user: {ADDRESS}",
            '        postfix_sasl_password: "{{ vault_gmail }}"', "        postfix_aliases:",
            f"          - {{user: root, alias: {ADDRESS}}}",
        ),
        ("command", "ansible-vault create group_vars/all/vault.yml"),
        ("answer", "a vault password"),
        ("answer", "a vault password"),
        ("file", f"vault_gmail: {PASSWORD}\n"),
        ("command", "ansible-playbook -i hosts relay.yml --ask-vault-pass"),
        ("answer", "a vault password"),
        ("command", f"ansible -i hosts all -m shell -a \"{TEST}\""),
    ),
]  # fmt: skip
