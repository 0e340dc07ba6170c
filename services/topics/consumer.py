"""What the topics service makes of a batch: fold it into the facts, derive what was touched."""

import hashlib

from services.topics.derive import SQL, rederive
from services.topics.discourse import erase_polled
from shared.contracts.catalogue import APPLICATIONS, CONTACTS, FORUM, MEMBERS
from shared.contracts.envelope import Event
from shared.contracts.members import ErasedMemberData, MemberErased
from shared.forum import Facts, Mark
from shared.messaging import Batch

_ERASED = MemberErased.type_name()
STREAMS = (FORUM, MEMBERS, APPLICATIONS)


class TopicsConsumer:
    """Applies batches of forum, member and application events."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def apply(self, batch: Batch) -> None:
        """Runs in the batch's transaction; whatever it raises undoes all of it."""
        transaction = batch.transaction
        touched = await self._facts.fold(batch)
        if touched.gone:
            gone = list(touched.gone), list(touched.gone.values())
            await transaction.connection.execute(SQL.erase_claims, *gone)
            await transaction.connection.execute(SQL.erase_policies, *gone)
            await erase_polled(transaction.connection, touched.gone)
        for record in batch.records if _ERASED in batch.types else ():
            # Whoever writes a compacted stream keyed by member says there, too, that a member is gone.
            if record.event.type == _ERASED:
                transaction.forward(CONTACTS, record.event.data.member_id, record.event)
        for event in touched.late:
            # Nor may what came with it, a name or an address, be the last word on a compacted stream.
            for stream in (MEMBERS, CONTACTS):
                transaction.forward(stream, event.data.member_id, _erased_again(event))
        if not batch.records:
            return
        last = batch.records[-1].event
        otherwise = Mark(all(record.event.backfill for record in batch.records), last.traceparent)
        await rederive(transaction, touched, otherwise)


def _erased_again(late: Event) -> MemberErased:
    return MemberErased(
        specversion="1.0",
        id=hashlib.sha256(f"{late.source}\n{late.id}\nerased".encode()).hexdigest(),
        source="/constellation/topics",
        time=late.time,
        data=ErasedMemberData(member_id=late.data.member_id, status="erased"),
    )
