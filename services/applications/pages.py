"""The pages of the applications service: the programme, applying, the quiz, the directory, and the desks of staff."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import yaml
from fastapi import APIRouter, Depends, Form, Query, Request, UploadFile
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from services.applications.api import (
    Anyone,
    JamIn,
    Parts,
    PerkIn,
    csv_response,
    decoded,
    described,
    for_reader,
    publish,
    read_eligible,
    read_programme,
    read_yaml,
)
from services.applications.membership import SQL as MEMBERSHIP_SQL
from services.applications.programme import SQL as PROGRAMME_SQL
from services.applications.programme import Edition, FieldDocument
from shared.contracts.types import NO_NUL, Id
from shared.postgres import Queries
from shared.web import Cursor, Pages, Principal, Problem, Role, signed_in
from shared.web.parameters import Word

SEASONS_SQL = Queries(Path(__file__).parent / "sql" / "seasons.sql")
PAGE, EVIDENCE = 60, 30
MOST_WORDS = 12_000

Me = Annotated[Principal, Depends(signed_in())]
Staff = Annotated[Principal, Depends(signed_in(Role.STAFF))]
Text = Annotated[str, Form(max_length=MOST_WORDS)]
FormId = Annotated[str, Form(max_length=255, pattern=NO_NUL)]
Done = Annotated[str | None, Query(max_length=20, pattern=r"^[a-z-]*$")]


def router(parts: Parts) -> APIRouter:
    """The routes of pages under ``/applications``."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(Path(__file__).parent / "templates")
    outbox = parts.runtime.outbox

    async def doing(work: Awaitable[Any], again: Callable[[Problem], Awaitable[Response]], then: str) -> Response:
        """Do it and go on to THEN; what stands against it is said on the page that it was asked from."""
        try:
            await work
        except Problem as problem:
            if problem.status not in (400, 403, 409):
                raise
            return await again(problem)
        return RedirectResponse(then, 303)

    # --- the programme, and one's own application ---------------------------------------------------------------

    @routes.get("/")
    async def programme_page(request: Request, principal: Anyone) -> Response:
        """What is it, and am I ready?"""
        programme = await read_programme(parts, principal)
        own: list[dict[str, Any]] = []
        star = None
        async with outbox.transaction() as transaction:
            connection = transaction.connection
            member = await parts.members.reading(connection, principal)
            if member is not None:
                own = await parts.applying.of_member(connection, member)
                star = await parts.membership.of_member(connection, member)
        return pages.render(
            request, "programme.html", section="stars", tab="programme", programme=programme, own=own, star=star
        )

    async def _edition(connection: Any, opened: dict[str, Any] | None) -> Edition:
        """The edition whose form is to be filled: that in which the draft began, else the present one."""
        if opened is None:
            return await parts.programme.present(connection)
        return await parts.programme.edition(connection, opened["edition"])

    async def _apply(
        request: Request, principal: Principal, problem: Problem | None = None, given: dict[str, Any] | None = None
    ) -> Response:
        async with outbox.transaction() as transaction:
            connection = transaction.connection
            member = await parts.members.reading(connection, principal)
            if member is None:
                raise Problem(403, "Only members of the forum can apply, and your sign-in names none.")
            own = await parts.applying.of_member(connection, member)
            opened = _opened(own)
            if opened is not None and opened["state"] != "draft":
                return RedirectResponse(f"/applications/application/{opened['application_id']}", 303)
            edition = await _edition(connection, opened)
            answers: dict[str, Any] = {}
            if opened is not None:
                answers = (await parts.applying.read(principal, opened["application_id"]))["answers"]
            answers |= given or {}
            picked = [id for one in edition.document.form if one.kind == "evidence" for id in answers.get(one.id, [])]
            replies = await parts.applying.own_replies(connection, member, EVIDENCE, picked)
        wrong = {}
        if problem is not None:
            wrong = {one["location"].partition(".")[2]: one["detail"] for one in problem.members.get("errors", [])}
        return pages.render(
            request,
            "apply.html",
            status=200 if problem is None else problem.status,
            section="stars",
            tab="programme",
            form=described(edition, [], None, None)["form"],
            draft=opened,
            answers=answers,
            replies=replies,
            earlier=[one for one in own if one["submitted_at"]],
            problem=problem,
            wrong=wrong,
        )

    async def _answers(principal: Principal, form: FormData) -> dict[str, Any]:
        async with outbox.transaction() as transaction:
            connection = transaction.connection
            member = await parts.members.reading(connection, principal)
            own = [] if member is None else await parts.applying.of_member(connection, member)
            edition = await _edition(connection, _opened(own))
        # What the form did not ask stays as it was.
        return {one.id: _answer(one, form) for one in edition.document.form if one.id in form}

    @routes.get("/apply")
    async def apply_page(request: Request, principal: Me) -> Response:
        """One question a screen on a phone, all on one page on a desk."""
        return await _apply(request, principal)

    @routes.post("/apply/draft")
    async def keep_draft(request: Request, principal: Me) -> Response:
        """Keep what is written; asked by the page itself while somebody writes."""
        answers = await _answers(principal, await request.form())
        begun = await parts.applying.begin(principal, answers)
        if begun["state"] != "draft":
            raise Problem(409, "It is handed in already.", type="wrong-state")
        return pages.render(request, "kept.html")

    @routes.post("/apply")
    async def hand_in(request: Request, principal: Me) -> Response:
        """Hand it in, or show what is missing."""
        answers = await _answers(principal, await request.form())
        try:
            begun = await parts.applying.begin(principal, answers)
            await parts.applying.submit(principal, begun["application_id"])
        except Problem as problem:
            if problem.status not in (400, 409):
                raise
            return await _apply(request, principal, problem, answers)
        return RedirectResponse(f"/applications/application/{begun['application_id']}", 303)

    async def _application(
        request: Request, principal: Principal, application_id: str, problem: Problem | None = None
    ) -> Response:
        application = await parts.applying.read(principal, application_id)
        async with outbox.transaction() as transaction:
            edition = await parts.programme.edition(transaction.connection, application["edition"])
            bank = await parts.programme.bank(transaction.connection, edition.bank)
            me = await parts.members.reading(transaction.connection, principal)
        return pages.render(
            request,
            "application.html",
            status=200 if problem is None else problem.status,
            section="stars",
            tab="programme",
            application=application,
            mine=me == application["member_id"],
            document=edition.document,
            languages=bank.languages(),
            problem=problem,
        )

    @routes.get("/application/{application_id}")
    async def application_page(request: Request, application_id: Id, principal: Me) -> Response:
        """Where does it stand?"""
        return await _application(request, principal, application_id)

    @routes.post("/application/{application_id}/withdraw")
    async def withdraw(request: Request, application_id: Id, principal: Me) -> Response:
        """Take it back."""
        here = f"/applications/application/{application_id}"
        return await doing(
            parts.applying.withdraw(principal, application_id),
            lambda problem: _application(request, principal, application_id, problem),
            here,
        )

    # --- the quiz -----------------------------------------------------------------------------------------------

    @routes.post("/application/{application_id}/quiz")
    async def begin_quiz(
        request: Request, application_id: Id, principal: Me, language: Annotated[str, Form(max_length=35)] = "en"
    ) -> Response:
        """Begin an attempt, or go on with the open one."""
        return await doing(
            parts.quiz.open(principal, application_id, language),
            lambda problem: _application(request, principal, application_id, problem),
            f"/applications/application/{application_id}/quiz",
        )

    @routes.get("/application/{application_id}/quiz")
    async def quiz_page(
        request: Request, application_id: Id, principal: Me, n: Annotated[int, Query(ge=1, le=1000)] = 1
    ) -> Response:
        """One question, its options, a calm clock; after the end each answer with its explanation."""
        try:
            attempt = await parts.quiz.read(principal, application_id)
        except Problem as problem:
            if problem.status != 404:
                raise
            return RedirectResponse(f"/applications/application/{application_id}", 303)
        application = await parts.applying.read(principal, application_id)
        over = attempt["state"] == "finished"
        return pages.render(
            request,
            "quiz_over.html" if over else "quiz.html",
            section="stars",
            tab="programme",
            application=application,
            attempt=attempt,
            n=min(n, len(attempt["questions"])),
            # Counted down by the browser from the page's own time: its clock may be another one.
            ends=None if over else datetime.now(UTC).timestamp() + attempt["remaining_seconds"],
        )

    @routes.post("/application/{application_id}/quiz/answers/{n}")
    async def save_answer(
        request: Request, application_id: Id, principal: Me, n: int, answer: Annotated[int, Form(ge=0, le=100)]
    ) -> Response:
        """Save one answer; a script stays on the page, a form goes on to the next question."""
        here = f"/applications/application/{application_id}/quiz"
        try:
            saved = await parts.quiz.answer(principal, application_id, n, answer)
        except Problem as problem:
            if problem.type not in ("time-is-up", "attempt-over") or "x-csrf-token" in request.headers:
                raise
            return RedirectResponse(here, 303)
        if "x-csrf-token" in request.headers:
            return Response(json.dumps(saved), media_type="application/json", headers={"Cache-Control": "no-store"})
        return RedirectResponse(f"{here}?n={n + 1}", 303)

    @routes.post("/application/{application_id}/quiz/finish")
    async def finish_quiz(application_id: Id, principal: Me) -> Response:
        """End the attempt, and show how it went."""
        await parts.quiz.finish(principal, application_id)
        return RedirectResponse(f"/applications/application/{application_id}/quiz", 303)

    # --- the directory, and one's own membership ----------------------------------------------------------------

    @routes.get("/stars")
    async def directory_page(
        request: Request, principal: Anyone, space: Word = None, language: Word = None, cursor: Cursor = None
    ) -> Response:
        """Who can help with what?"""
        async with outbox.transaction() as transaction:
            words = await transaction.connection.fetch(MEMBERSHIP_SQL.words)
        return pages.render(
            request,
            "stars.html",
            section="stars",
            tab="stars",
            stars=await parts.membership.directory(principal, space, language, PAGE, cursor),
            space=space,
            language=language,
            spaces=[row["word"] for row in words if row["kind"] == "space"],
            languages=[row["word"] for row in words if row["kind"] == "language"],
        )

    async def _star(
        request: Request,
        principal: Principal | None,
        member_id: str,
        problem: Problem | None = None,
        done: str | None = None,
    ) -> Response:
        star = await parts.membership.read(principal, member_id)
        async with outbox.transaction() as transaction:
            me = await parts.members.reading(transaction.connection, principal)
            document = (await parts.programme.present(transaction.connection)).document
        mine = me == star["member_id"]
        return pages.render(
            request,
            "star.html",
            status=200 if problem is None else problem.status,
            section="stars",
            tab="stars",
            star=star if mine else for_reader(star, principal),
            mine=mine,
            document=document,
            problem=problem,
            done=done,
        )

    @routes.get("/stars/{member_id}")
    async def star_page(request: Request, member_id: Id, principal: Anyone, done: Done = None) -> Response:
        """A Star; to oneself also the switches."""
        return await _star(request, principal, member_id, done=done)

    @routes.post("/stars/{member_id}")
    async def describe_star(
        request: Request,
        member_id: Id,
        principal: Me,
        about: Annotated[str, Form(max_length=1000)] = "",
        spaces: Text = "",
        languages: Text = "",
        listed: Annotated[str | None, Form(max_length=10)] = None,
    ) -> Response:
        """What a Star says of themselves."""
        work = parts.membership.describe(
            principal,
            member_id,
            listed=listed is not None,
            about=about.replace("\x00", "").strip(),
            spaces=_words(spaces),
            languages=_words(languages),
        )
        return await doing(
            work, lambda problem: _star(request, principal, member_id, problem), f"{_to_star(member_id)}?done=saved"
        )

    @routes.post("/stars/{member_id}/leave")
    async def leave(
        request: Request, member_id: Id, principal: Me, until: Annotated[str, Form(max_length=40)] = ""
    ) -> Response:
        """Be away until a day; without one, be back."""

        async def work() -> None:
            if until:
                await parts.membership.take_leave(principal, member_id, _day(until))
            else:
                await parts.membership.come_back(principal, member_id)

        return await doing(
            work(), lambda problem: _star(request, principal, member_id, problem), f"{_to_star(member_id)}?done=saved"
        )

    @routes.post("/stars/{member_id}/retire")
    async def retire(
        request: Request, member_id: Id, principal: Me, reason: Annotated[str, Form(max_length=1000)] = ""
    ) -> Response:
        """End a membership, with thanks."""
        work = parts.membership.retire(principal, member_id, reason.replace("\x00", "").strip() or None)
        return await doing(
            work, lambda problem: _star(request, principal, member_id, problem), f"{_to_star(member_id)}?done=thanks"
        )

    @routes.post("/stars/{member_id}/rank")
    async def rank(
        request: Request, member_id: Id, principal: Staff, rank: Annotated[str, Form(max_length=60)]
    ) -> Response:
        """Give a rank, as staff."""
        return await doing(
            parts.membership.set_rank(principal, member_id, rank),
            lambda problem: _star(request, principal, member_id, problem),
            f"{_to_star(member_id)}?done=saved",
        )

    @routes.get("/stars/{member_id}/record")
    async def record_page(request: Request, member_id: Id, principal: Me) -> Response:
        """What a Star can take along."""
        record = await parts.records.read(principal, member_id)
        return pages.render(request, "record.html", section="stars", tab="stars", record=record)

    @routes.get("/stars/{member_id}/record.json")
    async def record_file(member_id: Id, principal: Me) -> Response:
        """The same, signed, as a file."""
        record = await parts.records.read(principal, member_id)
        jws = parts.records.signer.sign(record, datetime.now(UTC))
        return Response(
            json.dumps({"record": record, "jws": jws}, ensure_ascii=False, indent=2),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="record.json"', "Cache-Control": "private, no-store"},
        )

    # --- Star Jam and perks, as Stars see them ------------------------------------------------------------------

    async def _jams(
        request: Request, principal: Principal | None, problem: Problem | None = None, done: str | None = None
    ) -> Response:
        return pages.render(
            request,
            "jams.html",
            status=200 if problem is None else problem.status,
            section="stars",
            tab="jams",
            jams=[one for one in await parts.jams.all(principal) if one["state"] != "planned"],
            problem=problem,
            done=done,
        )

    @routes.get("/jams")
    async def jams_page(request: Request, principal: Anyone, done: Done = None) -> Response:
        """Star Jam, and one's own invitation."""
        return await _jams(request, principal, done=done)

    @routes.post("/jams/{jam_id}/answer")
    async def answer_jam(
        request: Request,
        jam_id: Id,
        principal: Me,
        accept: Annotated[bool, Form()],
        consent: Annotated[str | None, Form(max_length=10)] = None,
        travel_notes: Annotated[str, Form(max_length=2000)] = "",
    ) -> Response:
        """Accept or decline."""
        work = parts.jams.answer(
            principal,
            jam_id,
            accept=accept,
            consent=consent is not None,
            travel_notes=travel_notes.replace("\x00", "").strip() or None,
        )
        return await doing(
            work,
            lambda problem: _jams(request, principal, problem),
            f"/applications/jams?done={'accepted' if accept else 'declined'}",
        )

    async def _perks(
        request: Request, principal: Principal | None, problem: Problem | None = None, done: str | None = None
    ) -> Response:
        return pages.render(
            request,
            "perks.html",
            status=200 if problem is None else problem.status,
            section="stars",
            tab="perks",
            perks=await parts.perks.catalogue(principal),
            problem=problem,
            done=done,
        )

    @routes.get("/perks")
    async def perks_page(request: Request, principal: Anyone, done: Done = None) -> Response:
        """What Stars get."""
        return await _perks(request, principal, done=done)

    @routes.post("/perks/{perk_id}/claim")
    async def claim_perk(request: Request, perk_id: Id, principal: Me) -> Response:
        """Take one."""
        return await doing(
            parts.perks.grant(principal, perk_id, None),
            lambda problem: _perks(request, principal, problem),
            "/applications/perks?done=yours",
        )

    @routes.post("/grants/{grant_id}/address")
    async def give_address(
        request: Request, grant_id: Id, principal: Me, address: Annotated[str, Form(max_length=1000)] = ""
    ) -> Response:
        """Where to send it."""
        words = address.replace("\x00", "").strip()

        async def work() -> None:
            if len(words) < 10:
                raise Problem(400, "An address that a parcel arrives at has more than that.", type="invalid-address")
            await parts.perks.address(principal, grant_id, words)

        return await doing(
            work(), lambda problem: _perks(request, principal, problem), "/applications/perks?done=address"
        )

    @routes.get("/announcements")
    async def announcements_page(request: Request, principal: Anyone, cursor: Cursor = None) -> Response:
        """What Stars are told."""
        return pages.render(
            request,
            "announcements.html",
            section="stars",
            tab="announcements",
            announcements=await parts.announcements.page(principal, 20, cursor),
        )

    # --- the review desk ----------------------------------------------------------------------------------------

    @routes.get("/reviews")
    async def reviews_page(
        request: Request,
        principal: Staff,
        state: Annotated[
            str, Query(pattern="^(in-review|submitted|accepted|declined|failed|withdrawn)$")
        ] = "in-review",
        cursor: Cursor = None,
    ) -> Response:
        """Whom do I decide on next?"""
        return pages.render(
            request,
            "reviews.html",
            section="reviews",
            state=state,
            queue=await parts.reviews.queue(principal, state, PAGE, cursor),
        )

    async def _review(
        request: Request, principal: Principal, application_id: str, problem: Problem | None = None
    ) -> Response:
        dossier = await parts.reviews.dossier(principal, application_id)
        async with outbox.transaction() as transaction:
            edition = await parts.programme.edition(transaction.connection, dossier["edition"])
        return pages.render(
            request,
            "review.html",
            status=200 if problem is None else problem.status,
            section="reviews",
            dossier=dossier,
            document=edition.document,
            problem=problem,
        )

    @routes.get("/reviews/{application_id}")
    async def review_page(request: Request, application_id: Id, principal: Staff) -> Response:
        """The applicant's record, the rubric, and others' scores after mine."""
        return await _review(request, principal, application_id)

    @routes.post("/reviews/{application_id}")
    async def give_review(request: Request, application_id: Id, principal: Staff) -> Response:
        """Give one's scores, or say that one stands too near."""
        form = await request.form()
        scores = {
            name.removeprefix("score-"): int(value)
            for name, value in form.items()
            if name.startswith("score-") and isinstance(value, str) and value in "12345" and value
        }
        note = str(form.get("note") or "").replace("\x00", "").strip()[:10_000] or None
        work = parts.reviews.give(principal, application_id, scores, note, form.get("conflict") is not None)
        return await doing(
            work,
            lambda problem: _review(request, principal, application_id, problem),
            f"/applications/reviews/{application_id}",
        )

    @routes.post("/reviews/{application_id}/discussion")
    async def discuss(request: Request, application_id: Id, principal: Staff, text: Text = "") -> Response:
        """Say something to the other reviewers."""

        async def work() -> None:
            words = text.replace("\x00", "").strip()[:10_000]
            if words:
                await parts.reviews.discuss(principal, application_id, words)

        return await doing(
            work(),
            lambda problem: _review(request, principal, application_id, problem),
            f"/applications/reviews/{application_id}",
        )

    @routes.post("/reviews/{application_id}/decision")
    async def decide(
        request: Request,
        application_id: Id,
        principal: Staff,
        outcome: Annotated[str, Form(pattern="^(accepted|declined)$")],
        reason: Text = "",
    ) -> Response:
        """Decide, with a reason that the applicant reads."""

        async def work() -> None:
            words = reason.replace("\x00", "").strip()[:10_000]
            if not words:
                raise Problem(400, "A decision has a reason; the applicant reads it.", type="reason-needed")
            await parts.reviews.decide(principal, application_id, outcome, words)

        return await doing(
            work(),
            lambda problem: _review(request, principal, application_id, problem),
            f"/applications/reviews/{application_id}",
        )

    # --- the other desks ----------------------------------------------------------------------------------------

    async def _desk_jams(
        request: Request, principal: Principal, problem: str | None = None, given: dict[str, Any] | None = None
    ) -> Response:
        async with outbox.transaction() as transaction:
            seasons = await transaction.connection.fetch(SEASONS_SQL.closed_seasons)
        return pages.render(
            request,
            "desk_jams.html",
            status=200 if problem is None else 400,
            section="jams",
            jams=await parts.jams.all(principal),
            seasons=seasons,
            problem=problem,
            given=given or {},
        )

    @routes.get("/desk/jams")
    async def desk_jams_page(request: Request, principal: Staff) -> Response:
        """Every Star Jam, and a form for the next."""
        return await _desk_jams(request, principal)

    @routes.post("/desk/jams")
    async def make_jam(request: Request, principal: Staff) -> Response:
        """Plan one."""
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        try:
            jam = JamIn.model_validate(
                {name: _typed(name, value) for name, value in form.items() if value and name != "csrf_token"}
            )
            id = await parts.jams.make(**jam.model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            words = f"{' '.join(map(str, first['loc'])).replace('_', ' ')}: {first['msg']}"
            return await _desk_jams(request, principal, words, form)
        except Problem as problem:
            return await _desk_jams(request, principal, problem.detail, form)
        return RedirectResponse(f"/applications/desk/jams/{id}", 303)

    async def _desk_jam(
        request: Request, principal: Principal, jam_id: str, problem: Problem | None = None
    ) -> Response:
        return pages.render(
            request,
            "desk_jam.html",
            status=200 if problem is None else problem.status,
            section="jams",
            jam=await parts.jams.desk(jam_id),
            problem=problem,
        )

    @routes.get("/desk/jams/{jam_id}")
    async def desk_jam_page(request: Request, jam_id: Id, principal: Staff) -> Response:
        """The shortlist with reasons name by name, invitations and answers, the waiting list moving."""
        return await _desk_jam(request, principal, jam_id)

    @routes.post("/desk/jams/{jam_id}")
    async def act_on_jam(
        request: Request,
        jam_id: Id,
        principal: Staff,
        act: Annotated[str, Form(pattern="^(invite|shortlist|seats|end|attended|missed)$")],
        seats: Annotated[int, Form(ge=1, le=1000)] = 1,
        member_id: FormId = "",
    ) -> Response:
        """Invite, make the list again, set the seats, end it, or note who was there."""
        acts: dict[str, Callable[[], Awaitable[Any]]] = {
            "invite": lambda: parts.jams.invite(jam_id),
            "shortlist": lambda: parts.jams.shortlist(jam_id),
            "seats": lambda: parts.jams.set_seats(jam_id, seats),
            "end": lambda: parts.jams.end(jam_id),
            "attended": lambda: parts.jams.attend(jam_id, member_id, True),
            "missed": lambda: parts.jams.attend(jam_id, member_id, False),
        }
        return await doing(
            acts[act](),
            lambda problem: _desk_jam(request, principal, jam_id, problem),
            f"/applications/desk/jams/{jam_id}",
        )

    async def _desk_perks(
        request: Request,
        principal: Principal,
        problem: str | None = None,
        given: dict[str, Any] | None = None,
        perk: str | None = None,
    ) -> Response:
        catalogue = await parts.perks.catalogue(principal)
        chosen = next((one for one in catalogue if one["perk_id"] == perk), None)
        async with outbox.transaction() as transaction:
            document = (await parts.programme.present(transaction.connection)).document
        return pages.render(
            request,
            "desk_perks.html",
            status=200 if problem is None else 400,
            section="perks",
            perks=catalogue,
            chosen=chosen,
            grants=await parts.perks.grants(chosen["perk_id"]) if chosen else [],
            document=document,
            problem=problem,
            given=given or {},
        )

    @routes.get("/desk/perks")
    async def desk_perks_page(request: Request, principal: Staff, perk: Word = None) -> Response:
        """Stock, grants, and what is to be sent."""
        return await _desk_perks(request, principal, perk=perk)

    @routes.post("/desk/perks")
    async def make_perk(request: Request, principal: Staff) -> Response:
        """Put a perk in the catalogue."""
        form = await request.form()
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        stock = given.get("stock", "").strip()
        try:
            perk = PerkIn.model_validate(
                {
                    "name": given.get("name", ""),
                    "about": given.get("about", ""),
                    "kind": given.get("kind", ""),
                    "ranks": [one for one in form.getlist("ranks") if isinstance(one, str)],
                    "stock": int(stock) if stock.isdecimal() and len(stock) < 8 else stock or None,
                    "claimable": "claimable" in given,
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            return await _desk_perks(request, principal, f"{first['loc'][0]}: {first['msg']}", given)
        id = await parts.perks.make(perk.name, perk.about, perk.kind, perk.ranks, perk.stock, perk.claimable)
        return RedirectResponse(f"/applications/desk/perks?perk={id}", 303)

    @routes.post("/desk/perks/{perk_id}")
    async def act_on_perk(
        request: Request,
        perk_id: Id,
        principal: Staff,
        act: Annotated[str, Form(pattern="^(grant|fulfil)$")],
        member_id: FormId = "",
        grant_id: FormId = "",
    ) -> Response:
        """Give it to a Star, or note that it is on its way."""
        work = (
            parts.perks.grant(principal, perk_id, member_id or "?") if act == "grant" else parts.perks.fulfil(grant_id)
        )
        return await doing(
            work,
            lambda problem: _desk_perks(request, principal, problem.detail, perk=perk_id),
            f"/applications/desk/perks?perk={perk_id}",
        )

    @routes.get("/desk/perks/{perk_id}/to-send.csv")
    async def to_send(perk_id: Id, principal: Staff) -> Response:
        """What is to be sent, with addresses."""
        return csv_response(await parts.perks.export(perk_id), "to-send")

    async def _desk_roster(
        request: Request, problem: Problem | None = None, taken: dict[str, int] | None = None, text: str = ""
    ) -> Response:
        async with outbox.transaction() as transaction:
            document = (await parts.programme.present(transaction.connection)).document
        return pages.render(
            request,
            "desk_roster.html",
            status=200 if problem is None else problem.status,
            section="roster",
            document=document,
            problem=problem,
            taken=taken,
            text=text,
        )

    @routes.get("/desk/roster")
    async def roster_page(request: Request, principal: Staff) -> Response:
        """The roster of a programme that is there already."""
        return await _desk_roster(request)

    @routes.post("/desk/roster")
    async def take_roster(
        request: Request,
        principal: Staff,
        file: UploadFile | None = None,
        text: Annotated[str, Form(max_length=1_000_000)] = "",
        dry_run: Annotated[str | None, Form(max_length=10)] = None,
    ) -> Response:
        """Check it, or take it in."""
        try:
            given = decoded(await file.read()) if file is not None and file.size else text
            taken = await parts.roster.take(principal, given, dry_run=dry_run is not None)
        except Problem as problem:
            if problem.status != 400:
                raise
            return await _desk_roster(request, problem, text=text)
        return await _desk_roster(
            request, taken={**taken, "checked": dry_run is not None}, text=text if dry_run else ""
        )

    async def _desk_announcements(
        request: Request, principal: Principal, problem: str | None = None, given: dict[str, Any] | None = None
    ) -> Response:
        async with outbox.transaction() as transaction:
            document = (await parts.programme.present(transaction.connection)).document
        return pages.render(
            request,
            "desk_announcements.html",
            status=200 if problem is None else 400,
            section="announce",
            announcements=await parts.announcements.page(principal, 20, None),
            document=document,
            problem=problem,
            given=given or {},
        )

    @routes.get("/desk/announcements")
    async def desk_announcements_page(request: Request, principal: Staff) -> Response:
        """What was told to whom, and a form for the next."""
        return await _desk_announcements(request, principal)

    @routes.post("/desk/announcements")
    async def announce(
        request: Request,
        principal: Staff,
        title: Annotated[str, Form(max_length=200)] = "",
        text: Annotated[str, Form(max_length=10_000)] = "",
        audience: Annotated[str, Form(max_length=100)] = "stars",
        embargo: Annotated[str, Form(max_length=40)] = "",
    ) -> Response:
        """Tell it."""
        given = {"title": title, "text": text, "audience": audience, "embargo": embargo}
        try:
            words = [one.replace("\x00", "").strip() for one in (title, text)]
            if not all(words):
                raise Problem(400, "It needs a title and a text.")
            until = _day(embargo) if embargo else None
            await parts.announcements.publish(principal, words[0], words[1], audience, until)
        except Problem as problem:
            return await _desk_announcements(request, principal, problem.detail, given)
        return RedirectResponse("/applications/desk/announcements", 303)

    async def _desk_programme(
        request: Request, cursor: str | None = None, problem: Problem | None = None, text: str | None = None
    ) -> Response:
        async with outbox.transaction() as transaction:
            connection = transaction.connection
            editions = await parts.programme.editions(connection)
            inviting = await connection.fetchval(PROGRAMME_SQL.is_inviting)
        document = editions[0].document.model_dump(mode="json", exclude_none=True)
        return pages.render(
            request,
            "desk_programme.html",
            status=200 if problem is None else problem.status,
            section="programme",
            editions=editions,
            inviting=inviting,
            eligible=await read_eligible(parts, PAGE, cursor),
            text=text or yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=110),
            problem=problem,
        )

    @routes.get("/desk/programme")
    async def desk_programme_page(request: Request, principal: Staff, cursor: Cursor = None) -> Response:
        """Editions, who is eligible, and whether they are invited by themselves."""
        return await _desk_programme(request, cursor)

    @routes.post("/desk/programme")
    async def publish_edition(
        request: Request, principal: Staff, text: Annotated[str, Form(max_length=200_000)]
    ) -> Response:
        """Publish the next edition."""

        async def work() -> None:
            await publish(parts, principal, read_yaml(text), None)

        return await doing(
            work(),
            lambda problem: _desk_programme(request, problem=problem, text=text),
            "/applications/desk/programme",
        )

    @routes.post("/desk/programme/inviting")
    async def switch_inviting(
        principal: Staff, inviting: Annotated[str | None, Form(max_length=10)] = None
    ) -> Response:
        """Whether eligible members are invited by themselves."""
        await parts.runtime.pool.execute(PROGRAMME_SQL.set_inviting, inviting is not None)
        return RedirectResponse("/applications/desk/programme", 303)

    @routes.get("/desk/quiz")
    async def desk_quiz_page(request: Request, principal: Staff) -> Response:
        """Which questions are bad?"""
        async with outbox.transaction() as transaction:
            questions = await parts.quiz.statistics(transaction.connection)
        return pages.render(request, "desk_quiz.html", section="quiz", questions=questions)

    return routes


def _opened(own: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of a member's applications the one that goes on."""
    return next((one for one in own if one["closed_at"] is None), None)


def _answer(field: FieldDocument, form: FormData) -> Any:
    """What a form says to one question."""
    values = [value.replace("\x00", "") for value in form.getlist(field.id) if isinstance(value, str)]
    if field.kind == "consent":
        return any(values)
    if field.kind in ("text", "choice"):
        return values[0].replace("\r\n", "\n") if values else ""
    if field.kind == "evidence":
        return [value for value in values if value]
    return _words(",".join(values))


def _words(text: str) -> list[str]:
    """Words parted by commas or semicolons, each once, within what can be kept."""
    words = (word.strip() for word in text.replace("\x00", "").replace(";", ",").split(","))
    return list(dict.fromkeys(word[:100] for word in words if word))[:50]


def _day(text: str) -> datetime:
    """A day, or an instant, of a form. Raises Problem 400."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(400, "A date looks like 2026-11-30.", type="invalid-date") from None


def _typed(name: str, value: str) -> Any:
    """A form's text as the kind that the interface expects."""
    if name in ("seats", "answer_days", "rest_editions", "most_per_space"):
        return int(value) if value.isdecimal() and len(value) < 8 else value
    if name in ("starts_on", "ends_on"):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return value
    return value


def _to_star(member_id: str) -> str:
    return f"/applications/stars/{quote(member_id, safe='')}"
