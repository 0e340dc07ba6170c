"""Generated requests against every service's OpenAPI document, as each role: nothing surprising is ever found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.services import NAMES
from tests.e2e.site import ROOT, Site

SECONDS = 1
"""How long one role's run may take: there are five roles and four services."""
FEWEST = 10
"""Fewer requests say nothing; how many more there are is up to the machine."""

CONFIGURATION = """
hooks = "tests.e2e.hooks"

[generation]
allow-x00 = true
max-examples = 40
deterministic = true

# A stream never ends, and a test of its own reads it.
[[operations]]
include-path-regex = "/stream$"
enabled = false

[checks]
# A cursor is opaque, a time is RFC 3339 and an envelope has free data: a schema cannot tell the good from the bad.
positive_data_acceptance.enabled = false
# Ours, in the hooks, stands for it.
negative_data_rejection.enabled = false
"""


ROLES = ("nobody", "member", "star", "staff", "forum")
ALIKE = {("applications", "star"), ("applications", "forum")}
"""To these doors they are members like any other."""


@pytest.mark.parametrize(
    ("service", "role"), [(service, role) for service in NAMES for role in ROLES if (service, role) not in ALIKE]
)
def test_generated_requests_find_nothing(site: Site, tmp_path: Path, service: str, role: str) -> None:
    document = f"{site.url}/{service}/api/openapi.json"
    paths = site.client.get(document).json()["paths"]
    if not paths:
        pytest.skip(f"the service {service} has no operations yet")
    # Each operation has to be read and prepared, too.
    seconds = SECONDS + len(paths) // 24
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    headers = (
        [] if role == "nobody" else ["--header", f"Authorization: {site.bearer(role, member='fuzz')['Authorization']}"]
    )
    # A busy machine gets more time, and not a verdict on itself.
    for patience in (1, 4, 16):
        command = [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(configuration), "run", document, "--max-time", str(seconds * patience)),
            "--no-color",
            *headers,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=seconds * patience + 40,
            # What Hypothesis works out about Unicode, for seconds, is worked out once.
            env=os.environ | {"PYTHONPATH": str(ROOT), "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis")},
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        generated = re.search(r"(\d+) generated", done.stdout)
        if generated is not None and int(generated[1]) >= FEWEST:
            return
    pytest.fail(f"too few requests to say anything: {done.stdout[-3000:]}")
