"""Languages of what is told: gettext catalogues, one ``locale/LANGUAGE.po`` each; English is in the code."""

import gettext
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

FOLDER = Path(__file__).parent / "locale"
ENGLISH = "en"
LANGUAGES: tuple[str, ...] = (ENGLISH, *sorted(file.stem.replace("_", "-") for file in FOLDER.glob("*.po")))
"""BCP 47 tags of what there is."""


@dataclass(frozen=True)
class Words:
    """One language: its sentences, and how it writes numbers and times."""

    language: str
    text: Callable[[str], str]
    plural: Callable[[str, str, int], str]
    locale: Locale

    def time(self, at: datetime, zone: ZoneInfo) -> str:
        """An instant as the member's clocks show it, with the zone."""
        return format_datetime(at, "d MMMM y, HH:mm z", tzinfo=zone, locale=self.locale)

    def number(self, value: float) -> str:
        """A number with the language's own separators."""
        return format_decimal(value, locale=self.locale)

    def share(self, value: float) -> str:
        """A share as per cent with one digit."""
        return format_percent(value, "#,##0.0%", locale=self.locale)


def language_of(wish: str | None) -> str:
    """The language that comes nearest to a member's wish, else English."""
    if not wish:
        return ENGLISH
    wanted = wish.replace("_", "-").lower()
    exact = next((one for one in LANGUAGES if one.lower() == wanted), None)
    if exact is not None:
        return exact
    first = wanted.split("-")[0]
    return next((one for one in LANGUAGES if one.lower().split("-")[0] == first), ENGLISH)


def words_of(wish: str | None) -> Words:
    """The words for a member's wish."""
    return _words(language_of(wish))


@lru_cache(maxsize=16)
def _words(language: str) -> Words:
    translations = gettext.NullTranslations()
    file = FOLDER / f"{language.replace('-', '_')}.po"
    if language != ENGLISH:
        compiled = io.BytesIO()
        with file.open("rb") as source:
            write_mo(compiled, read_po(source))
        compiled.seek(0)
        translations = gettext.GNUTranslations(compiled)
    return Words(language, translations.gettext, translations.ngettext, Locale.parse(language, sep="-"))
