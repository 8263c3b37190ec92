"""One keyring operation in a process of its own: `python -m dma_setup.keyring_child OPERATION CLASS SERVICE USER`.

Operations: `get`, `set` (the secret on standard input), `delete`, `prove` (set, get and delete an entry of its own).
Standard output is the secret for `get`, nothing otherwise. Exit 0 done, 1 no such entry, 2 with one line on standard
error: why. A keyring may wait for ever for somebody to unlock it, and brings foreign code with it: hence the process,
which its parent ends when the time is over.
"""

from __future__ import annotations

import importlib
import sys

import keyring


def main(argv: list[str]) -> int:
    operation, name, service, user = argv
    try:
        module, _, kind = name.rpartition(".")
        backend = getattr(importlib.import_module(module), kind)()
        if hasattr(backend, "appid"):
            from dma_runtime.keyrings import APPLICATION

            backend.appid = APPLICATION
        keyring.set_keyring(backend)  # this one, whatever else is installed: nothing is detected
        if operation == "get":
            found = keyring.get_password(service, user)
            if found is None:
                return 1
            sys.stdout.write(found)
        elif operation == "set":
            keyring.set_password(service, user, sys.stdin.read())
        elif operation == "delete":
            if keyring.get_password(service, user) is None:
                return 1
            keyring.delete_password(service, user)
        elif operation == "prove":
            keyring.set_password(service, user, "proof \u00e4")
            same = keyring.get_password(service, user) == "proof \u00e4"
            keyring.delete_password(service, user)
            if not same:
                raise RuntimeError("what was stored did not come back")
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(text + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
