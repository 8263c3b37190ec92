"""A password encrypted by ansible-vault, read through Ansible's own library: the optional extra `dma[ansible]`.

What opens it is found as Ansible finds it: ANSIBLE_VAULT_PASSWORD_FILE, a file with the password or a program that prints
it. There is no other way in, and nothing is asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module

from dma_setup.question import Refused

HEADER = "$ANSIBLE_VAULT;"
PASSWORD_FILE = "ANSIBLE_VAULT_PASSWORD_FILE"  # noqa: S105 the name of a variable


def is_one(text: str) -> bool:
    return text.lstrip().startswith(HEADER)


def read(text: str, environ: Mapping[str, str]) -> str:
    """The text within. Raises Refused, which never quotes it."""
    try:
        errors, loading, vaults = (import_module(f"ansible.{name}") for name in ("errors", "parsing.dataloader", "parsing.vault"))
    except ImportError:
        raise Refused("is encrypted by ansible-vault: install dma[ansible], or give a reference such as {env: NAME}") from None
    path = environ.get(PASSWORD_FILE, "")
    if not path:
        raise Refused(f"is encrypted by ansible-vault, and {PASSWORD_FILE} does not say what opens it")
    try:
        opener = vaults.get_file_vault_secret(filename=os.path.expanduser(path), loader=loading.DataLoader())
        opener.load()
        lines = "\n".join(line.strip() for line in text.strip().splitlines())
        return bytes(vaults.VaultLib([("default", opener)]).decrypt(lines)).decode("utf-8").rstrip("\n")
    except (errors.AnsibleError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(f"is encrypted by ansible-vault and could not be opened: {reason}") from None
