"""The HTTP ground that every service stands on: errors, access, limits, paging, the process and its server."""

from shared.web.auth import (
    Authenticator,
    identify,
    issue_token,
    principal_or_none,
    require,
    signed_in,
)
from shared.web.pages import Pages
from shared.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from shared.web.principals import Principal, Role
from shared.web.problems import PROBLEM_MEDIA_TYPE, Problem, problem_response
from shared.web.process import Process, create_process
from shared.web.server import PortTaken, StartFailed, run, serve
from shared.web.service import Service, create_service_app

__all__ = [
    "PROBLEM_MEDIA_TYPE",
    "Authenticator",
    "Cursor",
    "Limit",
    "Pages",
    "PortTaken",
    "Principal",
    "Problem",
    "Process",
    "Role",
    "Service",
    "StartFailed",
    "create_process",
    "create_service_app",
    "decode_cursor",
    "encode_cursor",
    "identify",
    "issue_token",
    "principal_or_none",
    "problem_response",
    "require",
    "run",
    "serve",
    "signed_in",
]
