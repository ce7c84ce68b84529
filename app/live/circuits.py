"""Which targets and which credentials rest after failures, as this process has seen them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from app.domain.circuit import CLOSED, CONDUCT, STALLED, Breaker
from app.domain.errors import FaultKind, TargetFailure
from app.domain.target import Circuit

#: Faults that mean a stalled engine when nothing at all came from it meanwhile. What is idle had begun: something came.
_WAITED_IN_VAIN = frozenset({FaultKind.FIRST_TOKEN_TIMEOUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """How one target stands: its circuit, the fault that opened it, and whether it may be asked all the same when
    nobody else can serve."""

    circuit: Circuit = Circuit.CLOSED
    cause: str = ""
    last_resort: bool = False


IN_SERVICE = Rest()


class Circuits:
    """The breakers of targets and of credentials. A target is as open as the worse of its two.

    `notice` gets a sentence when a credential begins to rest: its account needs a person.
    """

    __slots__ = ("_accounts", "_credentials", "_notice", "_targets")

    def __init__(self, *, notice: Callable[[str], None] = lambda sentence: None) -> None:
        self._notice = notice
        #: By target: the credential that it uses.
        self._credentials: dict[str, str] = {}
        self._targets: dict[str, Breaker] = {}
        self._accounts: dict[str, Breaker] = {}

    def __bool__(self) -> bool:
        """True when anything has failed lately; most of the time nothing has."""
        return bool(self._targets or self._accounts)

    def follow(self, credentials: Mapping[str, str | None]) -> None:
        """These targets, and the credential of each."""
        self._credentials = {name: credential for name, credential in credentials.items() if credential is not None}
        self._accounts = {
            credential: breaker
            for credential, breaker in self._accounts.items()
            if credential in self._credentials.values()
        }

    def forget(self, target: str) -> None:
        """The target is gone."""
        self._targets.pop(target, None)
        self._credentials.pop(target, None)

    def troubled(self) -> Iterable[str]:
        """Targets whose rest may be another than `IN_SERVICE`."""
        if not self._accounts:
            return tuple(self._targets)
        sharing = (name for name, credential in self._credentials.items() if credential in self._accounts)
        return {*self._targets, *sharing}

    def of(self, target: str, *, at_s: float) -> Rest:
        """How it stands now."""
        own = self._targets.get(target, CLOSED)
        account = self._accounts.get(self._credentials.get(target, ""), CLOSED)
        worse = account if account.state(at_s=at_s) is Circuit.OPEN else own
        state = worse.state(at_s=at_s)
        if state is Circuit.CLOSED:
            state = account.state(at_s=at_s)
            if state is Circuit.CLOSED:
                return IN_SERVICE
            worse = account
        return Rest(
            circuit=state,
            cause="" if worse.cause is None else worse.cause.value,
            last_resort=worse.is_last_resort(at_s=at_s),
        )

    def pauses(self, *, at_s: float) -> Mapping[str, float]:
        """Targets that rest because they asked for it, and for how many seconds more; 0 while one is probed after it.
        Without those whose account rests."""
        found: dict[str, float] = {}
        for name, own in self._targets.items():
            left_s = own.pause_left_s(at_s=at_s)
            account = self._accounts.get(self._credentials.get(name, ""), CLOSED)
            if left_s is not None and account.state(at_s=at_s) is not Circuit.OPEN:
                found[name] = left_s
        return found

    def dispatched(self, target: str, *, at_s: float) -> None:
        """A request goes there."""
        if target in self._targets:
            self._targets[target] = self._targets[target].dispatched(at_s=at_s)
        credential = self._credentials.get(target, "")
        if credential in self._accounts:
            self._accounts[credential] = self._accounts[credential].dispatched(at_s=at_s)

    def answered(self, target: str) -> None:
        """It answered: its record is clean, and so is its account's."""
        self._targets.pop(target, None)
        self._accounts.pop(self._credentials.get(target, ""), None)

    def let_go(self, target: str) -> None:
        """A request ended there and said nothing of it."""
        self._let_go(self._targets, target)
        self._let_go(self._accounts, self._credentials.get(target))

    def failed(self, failure: TargetFailure, *, began_s: float, at_s: float, progressed: bool) -> None:
        """A request that began then failed there. `progressed`: somebody got something from it meanwhile."""
        conduct = CONDUCT.get(failure.kind)
        if conduct is None:
            self.let_go(failure.target)
            return
        if failure.kind in _WAITED_IN_VAIN and not progressed:
            conduct = STALLED
        credential = self._credentials.get(failure.target)
        breakers, name = self._targets, failure.target
        if conduct.of_account and credential is not None:
            self._let_go(self._targets, failure.target)
            breakers, name = self._accounts, credential
            if name not in breakers:
                self._notice(
                    f"{credential} rests for {conduct.rest_s:.0f} s, and with it every target that uses it: {failure}"
                )
        else:
            self._let_go(self._accounts, credential)
        asked_s = failure.retry_after_s if failure.kind in _MAY_ASK else None
        breakers[name] = breakers.get(name, CLOSED).failed(
            failure.kind, conduct, began_s=began_s, at_s=at_s, asked_s=asked_s
        )

    def _let_go(self, breakers: dict[str, Breaker], name: str | None) -> None:
        if name in breakers:
            breakers[name] = breakers[name].let_go()


#: Faults whose Retry-After is kept.
_MAY_ASK = frozenset({FaultKind.OVERLOADED, FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR})
