"""``python -m tests.load [SCENARIO|all] [--quick]``: speed, measured on this machine.

Everything runs on embedded Kafka and PostgreSQL of its own, on 127.0.0.1, in a temporary folder, and ends by itself.
"""

import argparse
import asyncio
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.load.boards import boards
from tests.load.fanout import fanout
from tests.load.figures import Line, markdown
from tests.load.history import history
from tests.load.kudos import kudos
from tests.load.latency import latency
from tests.load.mails import mails
from tests.load.pages import pages
from tests.load.pushes import pushes
from tests.load.report import report
from tests.load.stage import Bystanders
from tests.load.throughput import ledger, throughput

Scenario = Callable[[bool], Coroutine[Any, Any, list[Line]]]
SCENARIOS: dict[str, Scenario] = {
    "throughput": throughput,
    "ledger": ledger,
    "boards": boards,
    "report": report,
    "latency": latency,
    "kudos": kudos,
    "import": history,
    "pages": pages,
    "mails": mails,
    "pushes": pushes,
    "fanout": fanout,
}


def main() -> None:
    """Run what was asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("which", nargs="?", default="all", choices=[*SCENARIOS, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: to see that it works")
    given = parser.parse_args()
    # A topic that was made a moment ago has no leader yet: aiokafka warns, and tries again.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    chosen = list(SCENARIOS) if given.which == "all" else [given.which]
    started = time.monotonic()
    load = f", {os.getloadavg()[0]:.1f} busy before" if hasattr(os, "getloadavg") else ""
    print(
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}"
    )
    lines: list[Line] = []
    failed: list[str] = []
    for name in chosen:
        bystanders = Bystanders()
        # A loop for each, so that nothing of one is left over for the next.
        try:
            lines += asyncio.run(SCENARIOS[name](given.quick))
        except (RuntimeError, OSError, TimeoutError) as error:
            print(f"  {name} failed: {error}", flush=True)
            failed.append(name)
        print(f"  {bystanders}", flush=True)
    print(f"\ndone in {time.monotonic() - started:.0f} s; for the README:\n")
    quick = " --quick" if given.quick else ""
    command = "make bench" if given.which == "all" and not quick else f"python -m tests.load {given.which}{quick}"
    markdown(lines, command)
    if failed:
        sys.exit(f"\nfailed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
