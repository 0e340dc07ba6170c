"""npm's oidc-provider, a certified OpenID provider, as a process of its own."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "oidc-provider@9.13.3"
SCRIPT = Path(__file__).with_name("openid.mjs")


class Missing(RuntimeError):
    """What this machine lacks to run it."""


def installed() -> Path:
    """The folder with the package, installed once into the user's cache. Raises Missing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "constellation-tests"
    folder = cache / PACKAGE.replace("@", "-")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as new:
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", new, PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            if done.returncode != 0:
                raise Missing(f"npm cannot install {PACKAGE}: {done.stderr[-500:]}")
            try:
                Path(new).rename(folder)
            except OSError:
                # Another run was faster.
                assert folder.exists()
            Path(new).mkdir(exist_ok=True)
    return folder


@contextmanager
def openid_provider(clients: list[dict[str, Any]], accounts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Run it, and give its issuer; people sign in with any password. Raises Missing."""
    folder = installed()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["node", str(SCRIPT), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
        )
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps({"clients": clients, "accounts": accounts}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("issuer: "):
                    yield line.removeprefix("issuer: ").strip()
                    return
            log.seek(0)
            raise RuntimeError(f"the OpenID provider did not start: {log.read()[-2000:]}")
        finally:
            process.kill()
            process.communicate()
