"""A password stored in a keyring, or taken out of it.

The old entry, if there is one, is kept in the same keyring under a name of its own, so that `undo` can put it back
without the password ever lying in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dma_runtime.secret import Secret
from dma_setup.changes import CHANGED, FAILED, NOTHING, RESTORED, Change, Keeper, NotApplied, TakenBack, digest, reader
from dma_setup.errors import SetupError
from dma_setup.stores import Stores
from dma_setup.system import System


@dataclass(frozen=True)
class SecretChange(Change):
    store: str
    service: str
    user: str
    before: Secret | None
    after: Secret | None
    subject: str
    says: str
    drains: bool = True
    after_digest: str = ""
    kept_as: str = ""  # the service under which the old entry is kept
    last: bool = False

    kind = "secret"

    @property
    def sign(self) -> str:
        if self.before == self.after:
            return "="
        return "+" if self.before is None else "-" if self.after is None else "~"

    def apply(self, system: System) -> None:
        stores = Stores(system)
        try:
            if self.before is not None and self.kept_as:
                stores.set(self.store, self.kept_as, self.user, self.before)
            self._put(stores, self.after)
        except SetupError as error:
            raise NotApplied(f"the password could not be stored: {error.text}") from error

    def _put(self, stores: Stores, secret: Secret | None) -> None:
        if secret is None:
            stores.delete(self.store, self.service, self.user)
        else:
            stores.set(self.store, self.service, self.user, secret)

    def take_back(self, system: System) -> TakenBack:
        stores = Stores(system)
        try:
            now = stores.get(self.store, self.service, self.user)
            kept = stores.get(self.store, self.kept_as, self.user) if self.kept_as else None
            before = kept if self.before is None else self.before
            taken = self._take_back(stores, now, before)
            if kept is not None and taken.result != CHANGED:
                stores.delete(self.store, self.kept_as, self.user)
        except SetupError as error:
            return TakenBack(FAILED, f"{self.subject}: {error.text}")
        return taken

    def _take_back(self, stores: Stores, now: Secret | None, before: Secret | None) -> TakenBack:
        if now == before:
            return TakenBack(NOTHING)
        if self.kept_as and before is None:
            # The copy of the old one is not there. Ours must not go without it; anything else was never replaced.
            missing = f"{self.subject}: the password from before is no longer in {self.store}; the present one is left there"
            return TakenBack(FAILED, missing) if self._is_ours(now) else TakenBack(NOTHING)
        if not self._is_ours(now):
            return TakenBack(CHANGED, f"{self.subject} was changed since; it is left as it is")
        self._put(stores, before)
        return TakenBack(RESTORED, self.subject)

    def _is_ours(self, now: Secret | None) -> bool:
        if self.after_digest and now is not None:
            return digest.fits(now.reveal().encode(), self.after_digest)
        return now == self.after

    def record(self, _keeper: Keeper, _number: int) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "store": self.store,
            "service": self.service,
            "user": self.user,
            "after_digest": digest.of(self.after.reveal().encode(), is_secret=True) if self.after is not None else "",
            "kept_as": self.kept_as,
            "subject": self.subject,
            "says": self.says,
            "drains": self.drains,
        }


@reader("secret")
def _read(record: dict[str, Any], _keeper: Keeper, _number: int) -> Change:
    return SecretChange(
        store=record["store"],
        service=record["service"],
        user=record["user"],
        before=None,
        after=None,
        subject=record["subject"],
        says=record["says"],
        drains=record["drains"],
        after_digest=record["after_digest"],
        kept_as=record["kept_as"],
    )
