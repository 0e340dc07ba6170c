"""The local mailbox: where no mail server is named, mails are kept for everyone who runs the installation to read."""

from collections.abc import Sequence

from services.notifier.channels import Attempts, Outcome, Ready, StoredMail
from services.notifier.mail import Composer, NotAnAddress


class MailboxChannel:
    """E-mail that stays here. A mail is written in the transaction of its result, so there is never a second one."""

    name = "email"

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def available(self) -> bool:
        """Always."""
        return True

    async def deliver(self, batch: Sequence[Ready], attempts: Attempts, *, urgent: bool) -> None:
        """Keep them."""
        for ready in batch:
            try:
                mail = self._composer.mail(ready)
            except NotAnAddress as error:
                bad = Outcome("bounced", "not-an-address", str(error), address=ready.address, suppress=True)
                await attempts.finish(ready, bad)
                continue
            kept = StoredMail(mail.subject, mail.raw, mail.named)
            await attempts.finish(ready, Outcome("accepted", provider="mailbox", address=ready.address, mail=kept))

    async def close(self) -> None:
        """Nothing is open."""
