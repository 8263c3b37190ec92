"""What becomes of a local name: aliases, included files and `.forward`, to the end.

Rules (C dma dma.c:180-262, sendmail's for what C dma has not):
- A destination that is the name itself keeps the local copy; `*` takes names without a line of their own, not those that
  come out of an expansion. Loops end and are named; each destination comes once.
- Who is left over is asked for a `.forward`: its destinations go on through the aliases, and the user's own name in it, like
  `\\user` anywhere, is the mailbox. One without a usable line forwards nothing.
- What an alias says and cannot be had (an included file that cannot be read, more than MANY destinations) is an end too,
  BROKEN: the sender hears of it.
- The destinations of `list` belong to `owner-list`, if there is such an alias: its mail address if it is one, else that
  name. The innermost list counts (sendmail alias.c). Failures go there.
- In system mode (`shared`) a `.forward` is not its reader's: it includes no files, and its lines are not shown to others.

Pure: what reads files is an argument.
"""

from __future__ import annotations

from dma_runtime.aliases import ADDRESS, INCLUDE, LOCAL, Aliases, Target, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BROKEN = "broken"

_DEPTH = 50  # of aliases within aliases
_MANY = 100_000  # destinations of one name


class Destination:
    """An end of the expansion. `kind` (never INCLUDE) and `text` as `aliases.Target` has them, or BROKEN and why.

    `owner`: who gets its failures, "" the sender. `user`: whose .forward named it; `source`: else the file that did.
    """

    __slots__ = ("kind", "owner", "source", "text", "user")

    def __init__(self, kind: str, text: str, owner: str = "", user: str = "", source: str = "") -> None:
        self.kind = kind
        self.text = text
        self.owner = owner
        self.user = user
        self.source = source

    def __repr__(self) -> str:
        return f"Destination({self.kind}, {self.text!r})"


def no_forward(_: str) -> tuple[str, str] | None:
    """Nobody has a .forward."""
    return None


class Expansion:
    """One name's. `include(path)` gives a file's text or raises OSError. `own(address)` gives the local name of an address of
    this machine, "" for any other. `forward(name)`: (login, text) of a user's .forward, None when there is none to use.
    """

    def __init__(
        self,
        aliases: Aliases,
        *,
        include: Callable[[str], str],
        own: Callable[[str], str],
        forward: Callable[[str], tuple[str, str] | None] = no_forward,
        shared: bool = False,
    ) -> None:
        self.problems: list[str] = []
        self._aliases = aliases
        self._include = include
        self._own = own
        self._forward = forward
        self._shared = shared
        self._found: dict[tuple[str, str, str], Destination] = {}
        self._walked: set[str] = set()  # names and files whose destinations are found already
        self._ends = 0  # how often an end was come to, known ones included

    def of(self, name: str) -> list[Destination]:
        """Where mail for a local name goes. Without an alias and a .forward it is the name itself, as LOCAL."""
        key = name.lower()
        entries = self._aliases.entries
        targets = entries.get(key) or entries.get("*")
        if targets is None:
            self._local(name, [], Destination(LOCAL, name))
        else:
            self._walk(targets, [key], Destination(LOCAL, name, self._owner(key, ""), "", self._aliases.source))
        return list(self._found.values())

    def _take(self, kind: str, text: str, at: Destination) -> None:
        self._ends += 1
        found = Destination(kind, text, at.owner, at.user, at.source)
        self._found.setdefault((kind, text, at.user if kind not in (ADDRESS, LOCAL) else ""), found)

    def _walk(self, targets: list[Target], above: list[str], at: Destination) -> None:
        """`above`: the names and files on the way here; `at`: owner, user and source of what is named here."""
        for target in targets:
            if len(above) > _DEPTH or len(self._found) > _MANY:
                why = f"alias {above[0]} has too many destinations"
                if (problem := f"{self._aliases.source}: {why}") not in self.problems:
                    self.problems.append(problem)
                self._take(BROKEN, why, at)
                return
            if target.kind == INCLUDE:
                self._include_file(target.text, above, at)
                continue
            name = self._own(target.text) if target.kind == ADDRESS else ""
            if not name:
                self._take(target.kind, target.text, at)
                continue
            key = name.lower()
            entry = self._aliases.entries.get(key)
            if f"~{key}" in above:
                self._take(LOCAL, name, at)  # alice in the .forward of alice: the copy she keeps
            elif entry is None or key == above[-1]:
                self._local(name, above, at)  # no alias, or the local copy of `root: root, admin@x`
            elif key in above:
                self.problems.append(f"{self._aliases.source}: alias loop: {_chain(above, key)}")
                self._take(LOCAL, name, at)
            elif key in self._walked:
                self._ends += 1
            else:
                self._walked.add(key)
                inner = Destination(LOCAL, name, self._owner(key, at.owner), "", self._aliases.source)
                self._walk(entry, [*above, key], inner)

    def _owner(self, key: str, otherwise: str) -> str:
        entry = self._aliases.entries.get("owner-" + key) if not key.startswith("owner-") else None
        if entry is None:
            return otherwise
        return entry[0].text if len(entry) == 1 and entry[0].kind == ADDRESS else "owner-" + key

    def _local(self, name: str, above: list[str], at: Destination) -> None:
        """A name that no alias changes."""
        mark = "~" + name.lower()
        if mark in self._walked:
            self._ends += 1
            return
        found = self._forward(name)
        if found is None:
            self._take(LOCAL, name, at)
            return
        self._walked.add(mark)
        login, text = found
        targets, problems = listed(text)
        for number, why in problems:
            said = "not understood" if self._shared else why
            self.problems.append(f"~{login}/.forward:{number}: {said}")
        before = self._ends
        self._walk(targets, [*above, mark], Destination(LOCAL, name, at.owner, login))
        if self._ends == before:
            self._take(LOCAL, name, at)  # nothing usable in it

    def _include_file(self, path: str, above: list[str], at: Destination) -> None:
        mark = f":include:{path}"
        if at.user and self._shared:
            self.problems.append(f"~{at.user}/.forward: includes no files here")
        elif mark in above:
            self.problems.append(f"{self._aliases.source}: alias loop: {path} includes itself")
        elif mark in self._walked:
            self._ends += 1
        else:
            self._walked.add(mark)
            try:
                if not path.startswith("/"):  # it would be another file in each caller's directory
                    raise OSError("an absolute path is needed")
                targets, problems = listed(self._include(path))
            except OSError as error:
                why = f"can not read :include:{path}: {error.strerror or error}"
                self.problems.append(f"{self._aliases.source}: {why}")
                if not at.user:
                    self._take(BROKEN, why, at)
                return
            self.problems += [f"{path}:{number}: {why}" for number, why in problems]
            self._walk(targets, [*above, mark], Destination(LOCAL, path, at.owner, at.user, path))


def _chain(above: list[str], key: str) -> str:
    names = [name for name in above[above.index(key) :] if not name.startswith((":", "~"))]
    return " -> ".join([*names, key])
