"""The OpenAPI documents are a contract: what is frozen may grow, and must never break."""

import json
from pathlib import Path

import pytest

from deploy.generate import README, documents, with_settings, with_states
from deploy.services import NAMES
from shared.contracts.compatibility import openapi_breaks

FROZEN = Path(__file__).parents[2] / "shared" / "contracts" / "openapi"


@pytest.mark.parametrize("name", NAMES)
async def test_the_document_of_a_service_grows_and_never_breaks(name: str) -> None:
    document = json.loads(json.dumps((await documents())[name]))
    frozen = json.loads((FROZEN / f"{name}.json").read_text("utf-8"))
    assert openapi_breaks(frozen, document) == []
    frozen["info"].pop("version"), document["info"].pop("version")
    assert frozen == document, "the document has grown: run `make contracts` and commit what it writes"


def test_the_readme_lists_every_setting() -> None:
    text = README.read_text("utf-8")
    assert with_settings(text) == text, "settings have changed: run `make contracts` and commit what it writes"


def test_the_readme_draws_an_applications_states_from_their_table() -> None:
    text = README.read_text("utf-8")
    assert "stateDiagram-v2" in text
    assert with_states(text) == text, "the table has changed: run `make contracts` and commit what it writes"
