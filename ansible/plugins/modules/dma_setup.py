#!/usr/bin/python
"""Runs `dma-setup RECIPE --answers - --json` on the host; the answers go over standard input, secrets in the environment."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: dma_setup
short_description: Set up how a machine sends mail
version_added: "0.1.0"
description:
  - Runs C(dma-setup) on the host with a recipe and its answers. The same run as at a terminal, without questions.
  - Nothing is changed when everything is right already. In check mode only the plan is made.
  - Secrets are handed over in the environment of the one process and are part of no argument, file or log.
options:
  recipe:
    description: The recipe, such as V(gmail) or V(smarthost). C(dma-setup list) names them all.
    type: str
    required: true
  answers:
    description:
      - The answers of the recipe, as C(dma-setup show RECIPE) explains them.
      - "A secret may be a reference here, such as C({keyring: true}) or C({file: /path}). Its value belongs into O(secrets)."
    type: dict
    default: {}
  secrets:
    description:
      - Answers that are secret, by the names of their questions. They come from a vault, and are never logged.
      - "A reference, such as C({keyring: true}), is handed on as it is."
    type: dict
    default: {}
  scope:
    description: Whether the whole machine is set up, which needs root, or only the user who is connected.
    type: str
    choices: [system, user]
    default: system
  root:
    description: Provision the image or tree below this directory; nothing is started then.
    type: path
  verify:
    description: Sign in at the relay before anything is changed.
    type: bool
    default: true
  test:
    description: Send a message afterwards and follow it to the reply of the relay, when something was changed.
    type: bool
    default: false
  executable:
    description: The program, when it is not on the path of the user who is connected or in the system's directories.
    type: path
    default: dma-setup
attributes:
  check_mode:
    description: The plan is made, nothing is changed.
    support: full
  diff_mode:
    description: Shows the differences of files. Passwords are not shown.
    support: full
author:
  - The dma project (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Send mail through a relay
  dma.mail.dma_setup:
    recipe: smarthost
    answers:
      host: smtp.example.org
      login: web
      sender: web@example.org
      root_mail: ops@example.org
      keyring: systemd-creds
    secrets:
      password: "{{ vault_relay_password }}"

- name: Keep all mail on the machine
  dma.mail.dma_setup:
    recipe: local
    answers:
      root_mail: alice
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be. One entry each, in the order of the changes.
  returned: success
  type: list
  elements: dict
  sample: [{"subject": "/etc/dma/dma.conf", "says": "send everything via smtp.example.org"}]
right:
  description: What was right already.
  returned: success
  type: list
  elements: str
notes:
  description: What a person should know about the plan. What looks wrong about the answers is a warning.
  returned: success
  type: list
  elements: str
journal:
  description: The directory with what was there before; C(dma-setup undo) takes the run back.
  returned: when something was changed
  type: str
proof:
  description: What became of the message that was sent afterwards.
  returned: when O(test=true) and something was changed
  type: dict
details:
  description: Further lines about why it failed, such as the answers that are missing.
  returned: failure
  type: list
  elements: str
"""

import json  # noqa: E402  Ansible wants the documentation first
import os  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

DONE = 0
WOULD_CHANGE = 3


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "recipe": {"type": "str", "required": True},
            "answers": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
            "root": {"type": "path"},
            "verify": {"type": "bool", "default": True},
            "test": {"type": "bool", "default": False},
            "executable": {"type": "path", "default": "dma-setup"},
        },
        supports_check_mode=True,
    )
    if module.params["recipe"].startswith("-"):
        module.fail_json(msg="recipe must be the name of a recipe")
    for name in sorted(set(module.params["answers"]) & set(module.params["secrets"])):
        module.fail_json(msg=f"{name} stands in answers and in secrets")
    program = found(module, module.params["executable"])
    answers, environment = handed_over(module.params["answers"], module.params["secrets"])
    status, output, errors = module.run_command(
        [program, *words(module.params, module.check_mode)], data=json.dumps(answers), environ_update=environment
    )
    document = parsed(output)
    for warning in (document or {}).get("warnings", []):
        module.warn(f"dma-setup: {warning}")
    if document is None or status not in (DONE, WOULD_CHANGE):
        fail(module, status, document or {}, errors)
        return
    plan = document.get("plan", {})
    changes = plan.get("changes", [])
    result: dict[str, Any] = {
        "changed": bool(changes),
        "changes": [{name: change[name] for name in ("subject", "says") if name in change} for change in changes],
        "right": plan.get("right", []),
        "notes": plan.get("notes", []),
    }
    if journal := document.get("result", {}).get("journal"):
        result["journal"] = journal
    if proof := document.get("proof"):
        result["proof"] = proof
    if module._diff:
        result["diff"] = [{"prepared": change["diff"]} for change in changes if change.get("diff")]
    module.exit_json(**result)


def found(module: AnsibleModule, executable: str) -> str:
    """Where the program is; fails with what to do when it is nowhere."""
    if "/" in executable:
        path = executable if os.access(executable, os.X_OK) else None
    else:
        path = module.get_bin_path(executable, opt_dirs=["/usr/local/bin", "/usr/local/sbin"])
    if path is None:
        module.fail_json(msg=f"{executable} is not installed on this host: install it first, or say where it is (executable)")
    return str(path)


def handed_over(answers: dict[str, Any], secrets: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers with a reference for each secret, and the environment that these references name."""
    known = dict(answers)
    environment = {}
    for number, (name, value) in enumerate(sorted(secrets.items())):
        if isinstance(value, dict):  # a reference already
            known[name] = value
            continue
        variable = f"DMA_SETUP_SECRET_{number}"
        known[name] = {"env": variable}
        environment[variable] = str(value)
    return known, environment


def words(params: dict[str, Any], check_mode: bool) -> list[str]:
    made = [params["recipe"], "--answers", "-", "--json", "--yes", f"--{params['scope']}"]
    if params["root"]:
        made += ["--root", params["root"]]
    if check_mode:
        made.append("--check")
    if not params["verify"]:
        made.append("--no-verify")
    if not params["test"]:
        made.append("--no-test")
    return made


def parsed(output: str) -> dict[str, Any] | None:
    try:
        found = json.loads(output)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def fail(module: AnsibleModule, status: int, document: dict[str, Any], errors: str) -> None:
    error = document.get("error", {})
    last = errors.strip().splitlines()[-1:] or [f"exit status {status}"]
    text = error.get("text") or last[0]
    module.fail_json(msg=f"dma-setup: {text}", details=error.get("details", []), rc=status)


if __name__ == "__main__":
    main()
