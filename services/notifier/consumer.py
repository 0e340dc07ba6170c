"""What the notifier service makes of a batch: it folds it into the facts that it keeps."""

from shared.contracts.catalogue import MEMBERS
from shared.forum import Facts
from shared.messaging import Batch

STREAMS = (MEMBERS,)


class NotifierConsumer:
    """Applies batches of member events."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def apply(self, batch: Batch) -> None:
        """Runs in the batch's transaction; whatever it raises undoes all of it."""
        await self._facts.fold(batch)
