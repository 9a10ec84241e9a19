"""The application behind Celery, whose broker is its own memory: it asks for a task for each line that it reads."""

from __future__ import annotations

import sys
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from support.processes import application

app: Any = Celery("support.processes.tasks", broker="memory://")
app.conf.update(broker_transport_options={"polling_interval": 0.05}, worker_prefetch_multiplier=1)


@app.task(name="put", ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def put(sku: str) -> None:
    application.put(sku)


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _ask(**_: object) -> None:
    """In the process whose children work."""
    threading.Thread(target=_read, daemon=True).start()


def _read() -> None:
    for line in sys.stdin:
        put.delay(line.strip())
