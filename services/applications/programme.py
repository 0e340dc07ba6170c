"""The programme: its editions, each a document that never changes, and the banks of questions that they draw from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from services.applications import rules
from shared.contracts.types import NO_NUL, Language, is_text
from shared.messaging import Outbox
from shared.postgres import Queries
from shared.web import Problem

_HERE = Path(__file__).parent
SQL = Queries(_HERE / "sql" / "programme.sql")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
Said = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=NO_NUL)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Words(_Document):
    """A text in several languages; English is always there."""

    model_config = ConfigDict(extra="allow")

    en: Said

    @model_validator(mode="after")
    def _all_are_texts(self) -> "Words":
        for language, text in (self.model_extra or {}).items():
            if not (is_text(text) and 0 < len(text) <= 2000 and is_text(language) and len(language) <= 35):
                raise ValueError(f"{language[:35]} is not a language with a text")
        return self

    def in_(self, language: str | None) -> str:
        """The text in this language, or in its main language, or in English."""
        said: Mapping[str, Any] = self.model_extra or {}
        for code in (language or "", (language or "").split("-")[0]):
            if code in said:
                return str(said[code])
        return self.en


class CriterionDocument(_Document):
    """What is asked of a fact."""

    id: Slug
    fact: rules.FactName
    at_least: float | None = Field(None, ge=0, le=1e9)
    at_most: float | None = Field(None, ge=0, le=1e9)
    months: int | None = Field(None, ge=1, le=1200, description="a window of calendar months, this one included")
    label: Words

    @model_validator(mode="after")
    def _asks_something(self) -> "CriterionDocument":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a criterion says either at_least or at_most")
        return self

    def rule(self) -> rules.Criterion:
        """The criterion as a rule."""
        return rules.Criterion(self.fact, self.at_least, self.at_most, self.months)


class Option(_Document):
    """An option of a choice."""

    id: Slug
    label: Words


class FieldDocument(_Document):
    """A question of the form."""

    id: Slug
    kind: Literal["text", "choice", "evidence", "languages", "spaces", "consent"]
    label: Words
    hint: Words | None = None
    required: bool = True
    least: int = Field(0, ge=0, le=10_000)
    most: int = Field(10, ge=1, le=50)
    longest: int = Field(4000, ge=1, le=rules.MOST_DRAFT)
    options: Annotated[list[Option], Field(max_length=30)] = []

    @model_validator(mode="after")
    def _has_options(self) -> "FieldDocument":
        if (self.kind == "choice") != bool(self.options):
            raise ValueError("a choice has options, and nothing else has")
        return self

    def rule(self) -> rules.Field:
        """The question as a rule."""
        options = frozenset(one.id for one in self.options)
        return rules.Field(self.id, self.kind, self.required, self.least, self.most, self.longest, options)


class QuizDocument(_Document):
    """How the quiz goes."""

    bank: Slug
    questions: int = Field(ge=1, le=50)
    seconds: int = Field(ge=1, le=86_400)
    pass_mark: int = Field(ge=1, le=50)
    attempts: int = Field(ge=1, le=20)
    wait_hours: float = Field(ge=0, le=24 * 366)

    @model_validator(mode="after")
    def _can_be_passed(self) -> "QuizDocument":
        if self.pass_mark > self.questions:
            raise ValueError("nobody can answer more questions than there are")
        return self


class RubricItem(_Document):
    """One thing that reviewers score, from 1 to 5."""

    id: Slug
    label: Words


class ReviewDocument(_Document):
    """How applications are reviewed."""

    reviewers: int = Field(2, ge=2, le=10)
    service_days: float = Field(14, gt=0, le=366)
    rubric: Annotated[list[RubricItem], Field(min_length=1, max_length=20)]


class RankDocument(_Document):
    """A rank of Stars."""

    id: Slug
    name: Words
    term_months: int | None = Field(None, ge=1, le=1200)
    criteria: Annotated[list[CriterionDocument], Field(max_length=20)] = []

    def rule(self) -> rules.Rank:
        """The rank as a rule."""
        return rules.Rank(self.id, self.term_months, tuple(one.rule() for one in self.criteria))


class EditionDocument(_Document):
    """An edition of the programme."""

    name: Words
    about: Words
    offers: Annotated[list[Words], Field(max_length=20)] = []
    open_to: Literal["eligible", "everyone"] = "eligible"
    criteria: Annotated[list[CriterionDocument], Field(max_length=20)]
    cool_down_days: float = Field(ge=0, le=3660)
    form: Annotated[list[FieldDocument], Field(max_length=30)]
    quiz: QuizDocument
    review: ReviewDocument
    grace_days: float = Field(30, ge=0, le=366)
    ranks: Annotated[list[RankDocument], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _ids_differ(self) -> "EditionDocument":
        lists: list[Sequence[Any]] = [self.criteria, self.form, self.ranks, self.review.rubric]
        for listed in lists:
            ids = [one.id for one in listed]
            if len(set(ids)) != len(ids):
                raise ValueError(f"an id is used twice: {', '.join(ids)}")
        return self

    def rules_of_criteria(self) -> list[rules.Criterion]:
        """The criteria as rules."""
        return [one.rule() for one in self.criteria]

    def rules_of_ranks(self) -> list[rules.Rank]:
        """The ranks as rules, from the lowest."""
        return [one.rule() for one in self.ranks]

    def rank_name(self, rank: str, language: str | None = None) -> str:
        """What a rank is called; its id where this edition does not know it any more."""
        return next((one.name.in_(language) for one in self.ranks if one.id == rank), rank)

    @property
    def cool_down(self) -> timedelta:
        """How long somebody waits before they apply again."""
        return timedelta(days=self.cool_down_days)

    @property
    def quiz_wait(self) -> timedelta:
        """How long somebody waits between two attempts at the quiz."""
        return timedelta(hours=self.quiz.wait_hours)


class QuestionText(_Document):
    """A question in one language; the first option is the right one."""

    question: Said
    options: Annotated[list[Said], Field(min_length=2, max_length=8)]
    explanation: Said


class Question(_Document):
    """A question of a bank, in its languages."""

    id: Slug
    texts: Annotated[dict[Language, QuestionText], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _languages_agree(self) -> "Question":
        if "en" not in self.texts:
            raise ValueError(f"{self.id}: English is missing")
        if len({len(text.options) for text in self.texts.values()}) != 1:
            raise ValueError(f"{self.id}: the languages have different numbers of options")
        for text in self.texts.values():
            if len(set(text.options)) != len(text.options):
                raise ValueError(f"{self.id}: two options are the same")
        return self

    def text(self, language: str) -> QuestionText:
        """The question in this language, in its main language, or in English."""
        return self.texts.get(language) or self.texts.get(language.split("-")[0]) or self.texts["en"]


class Bank(_Document):
    """A bank of questions."""

    bank: Slug
    questions: Annotated[list[Question], Field(min_length=1, max_length=2000)]

    @model_validator(mode="after")
    def _ids_differ(self) -> "Bank":
        if len({one.id for one in self.questions}) != len(self.questions):
            raise ValueError("an id is used twice")
        return self

    def languages(self) -> list[str]:
        """The languages in which every question is there."""
        every = [set(one.texts) for one in self.questions]
        return sorted(set.intersection(*every))

    def by_id(self) -> dict[str, Question]:
        """The questions by their ids."""
        return {one.id: one for one in self.questions}

    def digest(self) -> str:
        """What names this very content."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Edition:
    """An edition with its number, counted from 1."""

    number: int
    document: EditionDocument
    bank: str
    published_at: datetime


def shipped_edition() -> EditionDocument:
    """The edition that an installation begins with."""
    text = (_HERE / "programme" / "stars.yaml").read_text(encoding="utf-8")
    return EditionDocument.model_validate(yaml.safe_load(text))


def shipped_banks() -> dict[str, Bank]:
    """The banks that ship, by name."""
    found = {}
    for path in sorted((_HERE / "quiz").glob("*.yaml")):
        bank = Bank.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        found[bank.bank] = bank
    return found


class Programme:
    """The editions and banks of an installation. What was read once never changes, so it is kept."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._editions: dict[int, Edition] = {}
        self._banks: dict[str, Bank] = {}

    async def present(self, connection: Any) -> Edition:
        """The present edition; an installation without one begins with the one that ships."""
        number = await connection.fetchval(SQL.present)
        if number is None:
            await self._write(connection, 1, shipped_edition(), shipped_banks()["using-spotify"], None)
            number = await connection.fetchval(SQL.present)
        return await self.edition(connection, number)

    async def edition(self, connection: Any, number: int) -> Edition:
        """An edition by its number."""
        if number not in self._editions:
            self._editions[number] = await self._read(connection, number)
        return self._editions[number]

    async def _read(self, connection: Any, number: int) -> Edition:
        row = await connection.fetchrow(SQL.edition, number)
        document = EditionDocument.model_validate_json(row["document"])
        return Edition(number, document, row["bank"], row["published_at"])

    async def bank(self, connection: Any, digest: str) -> Bank:
        """A bank by the digest of its content."""
        if digest not in self._banks:
            document = await connection.fetchval(SQL.bank, digest)
            self._banks[digest] = Bank.model_validate_json(document)
        return self._banks[digest]

    async def editions(self, connection: Any) -> list[Edition]:
        """All editions, the present one first."""
        await self.present(connection)
        numbers = [row["edition"] for row in await connection.fetch(SQL.numbers)]
        return [await self.edition(connection, number) for number in numbers]

    async def publish(self, given: Any, bank: Any, by: str | None) -> Edition:
        """Publish the next edition. BANK: a bank of its own, or None for the one that is there under that name.

        Raises Problem 400 with what is wrong. Everyone is looked at again: who is eligible may have changed.
        """
        try:
            document = EditionDocument.model_validate(given)
            own = None if bank is None else Bank.model_validate(bank)
        except ValidationError as error:
            raise Problem(
                400,
                "The edition is not valid.",
                type="invalid-edition",
                errors=[
                    {"location": ".".join(map(str, one["loc"]))[:300], "detail": one["msg"][:300]}
                    for one in error.errors()[:50]
                ],
            ) from None
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            await connection.execute(SQL.lock_editions)
            present = await self.present(connection)
            chosen = own or await self._named(connection, document.quiz.bank)
            if chosen is None or chosen.bank != document.quiz.bank:
                raise Problem(400, f"There is no bank named {document.quiz.bank}.", type="invalid-edition")
            if len(chosen.questions) < document.quiz.questions:
                raise Problem(400, "The bank has fewer questions than an attempt.", type="invalid-edition")
            await self._write(connection, present.number + 1, document, chosen, by)
            await connection.execute(SQL.look_at_everyone)
            # Not kept yet: if the commit fails, there never was such an edition.
            return await self._read(connection, present.number + 1)

    async def _named(self, connection: Any, name: str) -> Bank | None:
        digest = await connection.fetchval(SQL.latest_bank, name)
        if digest is not None:
            return await self.bank(connection, digest)
        return shipped_banks().get(name)

    async def _write(self, connection: Any, number: int, document: EditionDocument, bank: Bank, by: str | None) -> None:
        digest = bank.digest()
        await connection.execute(SQL.keep_bank, digest, bank.model_dump_json())
        await connection.execute(SQL.write_edition, number, document.model_dump_json(), digest, by)
