"""The application behind a web server: a request for /name commits a product of that name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from support.processes.application import put


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = str(put(environ["PATH_INFO"].removeprefix("/"))).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
