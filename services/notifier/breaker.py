"""A breaker for each provider: while one takes nothing, nothing is tried there, and the next one may serve."""

from dataclasses import dataclass, field


@dataclass
class Breaker:
    """Closed: everything goes. Open: nothing, until ``open_until``. After that one attempt decides.

    ``rest`` is the pause between two messages that a provider asked for by a throttling reply; each success halves it.
    Times are a monotonic clock's seconds.
    """

    name: str
    tolerated: int = 5
    """Failures in a row that are no reason yet."""
    shortest: float = 5.0
    longest: float = 600.0
    failures: int = 0
    opened: int = 0
    open_until: float = 0.0
    reason: str | None = None
    rest: float = 0.0
    probing: bool = field(default=False, repr=False)

    def allows(self, now: float) -> bool:
        """Whether anything may be tried now; while a single attempt decides, that is all that is allowed."""
        return now >= self.open_until and not self.probing

    def is_open(self, now: float) -> bool:
        """Whether it is waiting to try again."""
        return now < self.open_until

    def probe(self, now: float) -> bool:
        """An attempt begins: after a pause it is alone until its result is known. Returns whether it is."""
        if self.opened and now >= self.open_until:
            self.probing = True
        return self.probing

    def answered(self) -> bool:
        """The provider is there, whatever it thinks of this message. Returns whether that is news."""
        news = bool(self.opened)
        self.failures = self.opened = 0
        self.open_until, self.reason, self.probing = 0.0, None, False
        return news

    def succeeded(self) -> bool:
        """The provider does its work, at this speed. Returns whether it had not."""
        self.rest = 0.0 if self.rest < 0.01 else self.rest / 2
        return self.answered()

    def failed(self, now: float, reason: str, *, at_once: bool = False) -> bool:
        """It did not; ``at_once``: it is no accident (our credentials, our reputation). Returns whether it opened."""
        self.failures += 1
        self.reason = reason
        probing, self.probing = self.probing, False
        if now < self.open_until:
            return False
        if not (at_once or probing or self.opened or self.failures >= self.tolerated):
            return False
        self.open_until = now + min(self.longest, self.shortest * 2**self.opened)
        self.opened = min(self.opened + 1, 16)
        return True

    def slow_down(self) -> bool:
        """The provider said that it is too much, so it is there. Returns whether that is news."""
        self.rest = min(5.0, max(0.05, self.rest * 2))
        return self.answered()
