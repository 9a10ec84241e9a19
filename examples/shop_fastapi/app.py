"""
The shop's API. Nothing in its routes knows of webhooks: they commit, or do not.

`create_app()` is given what stands in a configuration: the database, and the
partner that is told of orders. With uvicorn, write a module that calls it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import joinedload, selectinload

from examples.shop.models import Base, Customer, Order, OrderLine
from sqla_webhooks import Webhooks, install

router = APIRouter()


def create_app(database: str, *, partner_url: str, partner_secret: str) -> FastAPI:
    """
    The application.

    Args:
        database: A URL of an async driver, such as `sqlite+aiosqlite:///shop.db`.
    """
    engine = create_async_engine(database)
    sessions = async_sessionmaker(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        # Before the first session: those that were made earlier are not heard. At the end of the block it uninstalls.
        with install(sessions, send_context=["request_id"], allow_http=True, allow_networks=["127.0.0.1"]) as webhooks:
            describe_orders(webhooks)
            webhooks.endpoints.register("partner", url=partner_url, events=["order.*"], secret=partner_secret)
            app.state.sessions, app.state.webhooks = sessions, webhooks
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.middleware("http")(say_which_request)
    app.include_router(router)
    return app


def describe_orders(webhooks: Webhooks) -> None:
    """What an order's own row does not say. An enricher is a plain function, in an async application too."""

    @webhooks.enricher(Order, options=[joinedload(Order.customer), selectinload(Order.lines)])
    def add_customer_and_lines(order: Order, payload: dict[str, Any]) -> None:
        payload["customer"] = {"name": order.customer.name, "email": order.customer.email}
        payload["lines"] = [{"sku": line.sku, "quantity": line.quantity} for line in order.lines]


async def say_which_request(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """A middleware: what is changed in a request is recorded with its id, which is sent."""
    request_id = request.headers.get("x-request-id") or uuid4().hex
    webhooks: Webhooks = request.app.state.webhooks
    with webhooks.context(request_id=request_id):
        response = await answer(request)
    response.headers["x-request-id"] = request_id
    return response


def _sessions(request: Request) -> async_sessionmaker[AsyncSession]:
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    return sessions


#: A route opens its session itself, so that it has committed before anything is answered.
Sessions = Annotated[async_sessionmaker[AsyncSession], Depends(_sessions)]


class Wanted(BaseModel):
    """An order, as it is asked for: quantities by SKU."""

    customer: int
    lines: dict[str, int]


class Payment(BaseModel):
    card: str


@router.post("/orders", status_code=201)
async def place_order(wanted: Wanted, sessions: Sessions) -> dict[str, int]:
    async with sessions.begin() as session:
        if await session.get(Customer, wanted.customer) is None:
            raise HTTPException(404, "no such customer")
        lines = [OrderLine(sku=sku, quantity=quantity) for sku, quantity in wanted.lines.items()]
        order = Order(customer_id=wanted.customer, lines=lines)
        session.add(order)
        await session.flush()
        return {"id": order.id}


@router.post("/orders/{order_id}/pay")
async def pay_order(order_id: int, payment: Payment, sessions: Sessions) -> dict[str, str]:
    async with sessions.begin() as session:
        order = await session.get(Order, order_id, with_for_update=True)
        if order is None:
            raise HTTPException(404, "no such order")
        order.status = "paid"
        await session.flush()
        if payment.card == "declined":  # as a bank would say, after all that was written
            raise HTTPException(402, "the card was declined")  # rolls back, and its event with it
    return {"status": "paid"}
