"""All tests, in two lanes at once: ``python -m tests``, with arguments for pytest.

Who waits until something has mended, or a page has come to rest, leaves a processor to others. Each lane is a pytest of
its own, with infrastructure of its own; what the second says is shown when both have ended.
"""

import subprocess
import sys
import tempfile
import time

LANES = {
    "what is used": ["tests/e2e", "tests/unit"],
    "what is broken": ["tests/chaos", "tests/contract", "tests/integration"],
}


def main() -> int:
    """Run both; their exit status is the worse one."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        first, second = (
            subprocess.Popen([sys.executable, "-m", "pytest", *paths, *sys.argv[1:]], stdout=out)
            for paths, out in zip(LANES.values(), (None, said), strict=True)
        )
        try:
            statuses = [first.wait(), second.wait()]
        except KeyboardInterrupt:
            statuses = [first.wait(), second.wait()]
        said.seek(0)
        print(said.read(), end="")
    print(f"both lanes took {time.monotonic() - begun:.0f} s")
    return max(statuses, key=abs)


if __name__ == "__main__":
    sys.exit(main())
