"""A leaderboard's life as a state machine: facts, revocations, rules, opt-outs, merges, seasons, in any order.

Whatever happened, the ledger must be what the oracle makes of all events, the boards what it makes of the ledger, and
closed seasons what they were.
"""

import asyncio
from collections.abc import Coroutine
from datetime import date, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.leaderboard import app as leaderboard_app
from shared.postgres.pool import connect
from tests.integration.ledger_engine import LedgerEngine, first_responses
from tests.oracle import histories
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.figures import micros, moment, rfc3339
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import CLASSIC, Ledger, Standing, Version, board, window_of

T = TypeVar("T")
ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu")
BOARDS = ("everyone", "stars", "space:help", "language:en")
FIRST = moment(micros(histories.BEGINNING)).date()


def lines(standings: list[Standing]) -> list[tuple[int, str, int, int]]:
    """A board as the engine tells it."""
    return [(one.rank, one.member_id, one.points, one.solutions) for one in standings]


class Life(RuleBasedStateMachine):
    """One leaderboard and all that was ever told to it."""

    dsn = ""
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.run(connect(self.dsn, leaderboard_app.NAME))
        self.transaction = self.connection.transaction(isolation="repeatable_read")
        self.run(self.transaction.start())
        self.engine = LedgerEngine(self.connection, ERASURE_KEY)
        self.told: list[dict[str, Any]] = []
        self.names: set[tuple[str, str]] = set()
        self.sequence = 0
        self.versions: list[Version] = [CLASSIC]
        self.hiding: set[str] = set()
        self.zones: dict[str, str] = {}
        self.seasons: dict[str, tuple[date, date]] = {}
        self.closed: dict[str, dict[str, list[Any]]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something asynchronous to its end."""
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        """Undo everything."""
        self.run(self.transaction.rollback())
        self.run(self.connection.close())

    @initialize(history=histories.histories(max_size=4))
    def begin(self, history: list[dict[str, Any]]) -> None:
        """A forum that is there already."""
        self.tell(history)

    @rule(history=histories.histories(max_size=5), again=st.booleans())
    def tell(self, history: list[dict[str, Any]], again: bool = False) -> None:
        """More happens, and some of it is told twice; then what the topics service makes of it."""
        new = [event for event in history if (event["source"], event["id"]) not in self.names]
        self.names.update((event["source"], event["id"]) for event in new)
        self.told += new
        self.run(self.engine.apply(new + (new[::2] if again else [])))
        self.sequence += 1
        standing = Forum(self.told, ERASURE_KEY).standing_first_responses()
        facts = first_responses(standing.values(), self.sequence)
        gone = [
            {
                "specversion": "1.0",
                "id": f"gone/{topic_id}/{self.sequence}",
                "source": "/constellation/topics",
                "type": "first-response-revoked",
                "time": histories.LAST,
                "sequence": self.sequence,
                "data": {"topic_id": topic_id, "reply_id": "any", "reason": "reply-gone"},
            }
            for topic_id in histories.TOPICS
            if topic_id not in standing
        ]
        self.run(self.engine.apply(facts + gone))

    @rule()
    def fold(self) -> None:
        """The projector comes by."""
        self.run(self.engine.fold())

    @rule(member=st.sampled_from(histories.MEMBERS), visible=st.booleans())
    def show(self, member: str, visible: bool) -> None:
        """A member opts out, or in again."""
        forum = Forum(self.told, ERASURE_KEY)
        root = forum.member(member)
        if member in forum._erased:
            return
        self.run(self.engine.show(member, visible))
        if visible:
            self.hiding -= {one for one in self.hiding if forum.member(one) == root}
        else:
            self.hiding.add(root)

    @rule(name=st.sampled_from(BOARDS), zone=st.sampled_from(ZONES))
    def move(self, name: str, zone: str) -> None:
        """A board gets another time zone."""
        self.run(self.engine.set_zone(name, zone))
        self.zones[name] = zone

    @precondition(lambda self: len(self.versions) < 4)
    @rule(
        points=st.sampled_from((0, 1, 5)),
        most=st.sampled_from((1, 2, 4)),
        kinds=st.sampled_from((("question",), ("question", "discussion"))),
        days=st.sampled_from((None, 1, 2, 8)),
        meanwhile=histories.histories(max_size=2),
    )
    def rewrite(
        self, points: int, most: int, kinds: tuple[str, ...], days: int | None, meanwhile: list[dict[str, Any]]
    ) -> None:
        """History is written again by other rules, while events keep coming."""
        since = None if days is None else rfc3339(micros(histories.BEGINNING) + days * 86_400_000_000)
        version = {
            **CLASSIC,
            "version": len(self.versions) + 1,
            "from": since,
            "reply": points,
            "most": most,
            "kinds": kinds,
            "solution": 7,
        }
        self.run(self.engine.set_rules(version, rewrite=True))
        before = self.run(self.engine.ledger())
        self.tell(meanwhile)
        forum = Forum(self.told, ERASURE_KEY)
        # Until the swap, everybody reads by the rules of before.
        assert self.run(self.engine.ledger()) == Ledger(forum, self.versions).by_cause() or not before
        self.versions.append(version)
        self.run(self.engine.rewrite())

    @precondition(lambda self: len(self.seasons) < 3)
    @rule(start=st.integers(0, 3), length=st.integers(1, 9))
    def open(self, start: int, length: int) -> None:
        """A season opens."""
        season_id = f"season {len(self.seasons)}"
        first = FIRST + timedelta(days=start)
        self.seasons[season_id] = first, first + timedelta(days=length)
        self.run(self.engine.seasons.open(season_id, None, "everyone", *self.seasons[season_id]))

    @precondition(lambda self: self.seasons.keys() - self.closed.keys())
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """A season closes: what it was then, it stays."""
        season_id = data.draw(st.sampled_from(sorted(self.seasons.keys() - self.closed.keys())))
        rows = self.oracle().rows
        hidden = self.hidden()
        self.closed[season_id] = {
            name: lines(board(rows, name, self.seasons[season_id], self.zones.get(name, "UTC"), hidden))
            for name in BOARDS
        }
        self.run(self.engine.seasons.close(season_id))

    def oracle(self) -> Ledger:
        """What the oracle makes of everything."""
        return Ledger(Forum(self.told, ERASURE_KEY), self.versions)

    def hidden(self) -> set[str]:
        """Who is on no open board."""
        forum = Forum(self.told, ERASURE_KEY)
        stand_ins = {stand_in(ERASURE_KEY, member) for member in forum._erased}
        return stand_ins | {forum.member(member) for member in self.hiding - forum._erased}

    @invariant()
    def all_is_as_the_oracle_says(self) -> None:
        """The ledger at once, boards once they are folded."""
        oracle, hidden = self.oracle(), self.hidden()
        assert self.run(self.engine.ledger()) == oracle.by_cause()
        self.run(self.engine.fold())
        for name in BOARDS:
            zone = self.zones.get(name, "UTC")
            for window, days in (("all", 0), ("day", 0), ("day", 2), ("month", 0)):
                at = FIRST + timedelta(days=days)
                expected = lines(board(oracle.rows, name, window_of(window, at), zone, hidden))
                assert self.run(self.engine.board(name, window, at)) == expected, (name, window, at)
            for season_id, dates in self.seasons.items():
                found = self.run(self.engine.season(season_id, name))
                if season_id not in self.closed:
                    assert found == lines(board(oracle.rows, name, dates, zone, hidden))
                    continue
                frozen = self.closed[season_id][name]
                assert [(one[0], *one[2:]) for one in found] == [(one[0], *one[2:]) for one in frozen]
                assert all(now[1] in (then[1], "withdrawn") for now, then in zip(found, frozen, strict=True))
        standings = self.run(self.engine.standings())
        self.run(self.engine.rebuild())
        assert self.run(self.engine.standings()) == standings


@pytest.mark.timeout(900)
def test_a_leaderboards_life_ends_as_the_oracle_says(leaderboard_database: str, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--chaos-rounds", 1)
    loop = asyncio.new_event_loop()
    machine = type("ALife", (Life,), {"dsn": leaderboard_database, "loop": loop})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=12 * rounds,
                stateful_step_count=10,
                deadline=None,
                # Making a failure small takes longer than all of the rest: with more rounds alone.
                phases=(Phase.generate,) if rounds == 1 else tuple(Phase),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.close()
