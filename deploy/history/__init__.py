"""History in: dumps and files of events become backfill events, and go to Kafka in a way that can be resumed."""

from deploy.history.findings import Findings, HistoryError, Progress
from deploy.history.jsonl import read_jsonl
from deploy.history.load import Loaded, LoadFailed, checkpoint_file, fingerprint, load
from deploy.history.settled import NotSettled, Settled, wait_until_settled
from deploy.history.stackexchange import dump_files, read_dump

__all__ = [
    "Findings",
    "HistoryError",
    "LoadFailed",
    "Loaded",
    "NotSettled",
    "Progress",
    "Settled",
    "checkpoint_file",
    "dump_files",
    "fingerprint",
    "load",
    "read_dump",
    "read_jsonl",
    "wait_until_settled",
]
