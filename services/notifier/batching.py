"""Batches that form by themselves: whatever comes while one is written is the next one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Hands items that several tasks give it to ``write``, many at once, and each task its own answer.

    ``linger``: seconds that an item waits for others, so that batches are not of one.
    """

    def __init__(
        self, write: Callable[[list[Item]], Awaitable[list[Answer]]], most: int = 500, linger: float = 0.0
    ) -> None:
        self._write, self._most, self._linger = write, most, linger
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        """The answer to one item. Raises what writing its batch raised."""
        return await self.put(item)

    def put(self, item: Item) -> "asyncio.Future[Answer]":
        """The answer to one item, to be awaited later or not at all."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, answer))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return answer

    async def drained(self) -> None:
        """Wait until everything that was put is written."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._linger)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                answers = await self._write([item for item, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                        answer.exception()  # whoever does not await it knows what they do
            else:
                for (_, answer), value in zip(batch, answers, strict=True):
                    if not answer.done():
                        answer.set_result(value)
