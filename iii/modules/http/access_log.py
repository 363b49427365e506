"""One line in the log for each request, where the settings ask for it."""

from __future__ import annotations

from twisted.logger import Logger

from iii.core.shown import ACCESS_KEY, shown
from iii.modules.http.request import Request
from iii.modules.http.router import Route

log = Logger()


def log_access(peer: str, request: Request, route: Route, status: int, seconds: float, ending: str) -> None:
    """
    Say who asked for what and how that ended; of the target not the query, which may be secret.

    @param route: Its name is empty when there is none.
    @param status: Of the response; 0 when there was none.
    @param ending: What else there is to say.
    """
    log.debug(
        "{peer} {method} {path} {status} {ms:.1f} ms, route {route}{ending}",
        peer=peer,
        method=shown(request.method),
        path=shown(request.path, 500),
        status=status or "-",
        ms=seconds * 1000,
        route=shown(route.label) if route.label else "none",
        ending=f", {ending}" if ending else "",
        **{ACCESS_KEY: True},
    )
