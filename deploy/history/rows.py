"""The rows of an XML file of a dump, a piece at a time: whoever made the file must not be able to hurt its reader."""

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.parsers import expat  # every way into its own dangers, DTDs and entities, is shut below

from deploy.history.findings import HistoryError

PIECE = 256 * 1024
LONGEST_ROW = 16 * 1024 * 1024
"""A post's text ends at 30,000 characters; expat holds a row in memory until it has all of it."""
DEEPEST = 8


def rows(file: Path, told: Callable[[int], None]) -> Iterator[dict[str, str]]:
    """The attributes of every ``row`` element. ``told`` hears how many bytes were read since it was told last.

    A document type declaration is refused, and with it every entity but XML's own five: no expansion, nothing
    fetched. Raises HistoryError, which names the file and the place.
    """
    parser = expat.ParserCreate()
    found: list[dict[str, str]] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise _refused(file, parser, f"elements lie more than {DEEPEST} deep; a dump is a flat list of rows")
        if name == "row":
            found.append(attributes)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def no_doctype(*_: object) -> None:
        raise _refused(file, parser, "a document type declaration; dumps have none, and it can hide harmful entities")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = no_doctype
    parser.EntityDeclHandler = no_doctype
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    fed = 0
    try:
        with file.open("rb") as stream:
            while piece := stream.read(PIECE):
                fed += len(piece)
                parser.Parse(piece, False)
                if fed - parser.CurrentByteIndex > LONGEST_ROW:
                    raise _refused(file, parser, f"a row of more than {LONGEST_ROW // 2**20} MiB begins here")
                yield from found
                found.clear()
                told(len(piece))
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError, ValueError: an encoding that is none
        what = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else str(error)
        raise HistoryError(
            f"{file} is not well-formed XML: {what} at line {parser.ErrorLineNumber:,}, "
            f"column {parser.ErrorColumnNumber:,} (byte {parser.ErrorByteIndex:,})"
        ) from None
    except OSError as error:
        raise HistoryError(f"{file} cannot be read: {error.strerror or error}") from None
    yield from found


def _refused(file: Path, parser: expat.XMLParserType, what: str) -> HistoryError:
    return HistoryError(
        f"{file} is refused at line {parser.CurrentLineNumber:,}, column {parser.CurrentColumnNumber:,} "
        f"(byte {parser.CurrentByteIndex:,}): {what}"
    )
