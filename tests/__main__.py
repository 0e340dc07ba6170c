"""All tests, in three lanes at once: ``python -m tests``, with arguments for pytest.

Who waits until something has mended, or a page has come to rest, leaves a processor to others. Each lane is a pytest of
its own, with infrastructure of its own; what the others say is shown when all have ended.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

DEMO = "tests/e2e/test_demo.py"
LANES = {
    "what is used": ["tests/e2e", f"--ignore={DEMO}", "tests/contract"],
    "what is meant": ["tests/unit", "tests/integration"],
    "what is broken": ["tests/chaos", DEMO],
}
"""The demo goes where there is room: it wants an installation of its own in any case."""


def main() -> int:
    """Run all; their exit status is the worst one."""
    begun = time.monotonic()
    with ExitStack() as open_files:
        said = [None, *(open_files.enter_context(tempfile.TemporaryFile("w+")) for _ in list(LANES)[1:])]
        running = [
            subprocess.Popen([sys.executable, "-m", "pytest", *paths, *sys.argv[1:]], stdout=out)
            for paths, out in zip(LANES.values(), said, strict=True)
        ]
        try:
            statuses = [lane.wait() for lane in running]
        except KeyboardInterrupt:
            statuses = [lane.wait() for lane in running]
        for out in filter(None, said):
            out.seek(0)
            print(out.read(), end="")
    print(f"all lanes took {time.monotonic() - begun:.0f} s")
    return max(statuses, key=abs)


if __name__ == "__main__":
    sys.exit(main())
