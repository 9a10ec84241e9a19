"""
Writes of many rows without objects: ORM statements, and the session's bulk methods.

Their rows are read before and after, by their primary keys; what differs has
changed. Everything runs in the application's thread, on the connection and in
the transaction of what it looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from sqlalchemy.engine import ChunkedIteratorResult, Result
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.attributes import instance_state

from sqla_webhooks.capture import binds, cascades
from sqla_webhooks.capture.bulk_write import BulkWrite
from sqla_webhooks.capture.changed import Changed
from sqla_webhooks.capture.inserts import Inserts, may_meet_others
from sqla_webhooks.capture.plan import Plan
from sqla_webhooks.capture.recorder import Recorder
from sqla_webhooks.capture.references import GONE, Fate
from sqla_webhooks.capture.snapshot import by_class, by_kind, is_polymorphic, of_kinds
from sqla_webhooks.capture.watch import OPTION, Watcher, watching
from sqla_webhooks.errors import BulkLimitExceeded, WebhooksError
from sqla_webhooks.keys import Identity

logger = logging.getLogger(__name__)


class Bulk:
    """
    Capture of bulk writes, for one installation.

    Args:
        recorder: Knows what is wanted, and writes it down.
        limit: How many rows one operation may be about.
        skip: Whether one of more rows goes uncaptured; if not, it fails.
    """

    def __init__(self, recorder: Recorder, *, limit: int, skip: bool) -> None:
        self._recorder = recorder
        self._limit = limit
        self._skip = skip

    def execute(self, state: ORMExecuteState) -> Result[Any] | None:
        """
        Execute an ORM statement that writes, and tell of its rows. In `do_orm_execute`.

        Returns:
            Its result; None if there is nothing to tell, and SQLAlchemy is to execute it.

        Raises:
            BulkLimitExceeded: It is about too many rows.
            OutboxWriteError: The changes could not be written; the transaction is rolled back.
        """
        mapper = state.bind_mapper
        if mapper is None or not state.is_orm_statement or not (state.is_insert or state.is_update or state.is_delete):
            return None
        if state.is_delete:
            self._recorder.unseen.deleted_in_bulk(mapper)
        write = self._begin(state.session, [mapper], self._fate(state, mapper))
        if write is None:
            return None
        if state.is_insert:
            return self._insert(state, mapper, write)
        if state.is_executemany:
            return self._update_by_key(state, mapper, write)
        return self._change(state, mapper, write)

    def _begin(self, session: Session, mappers: Iterable[Mapper[Any]], fate: Fate | None) -> BulkWrite | None:
        """None if nobody wants to know of such rows, nor of those that the database changes with them."""
        recorder = self._recorder
        classes = list(dict.fromkeys(one for mapper in mappers for one in mapper.self_and_descendants))
        if fate is not None:
            known = recorder.references.current()
            classes = list(dict.fromkeys([*classes, *(one for its in classes for one in known.affected(its, fate))]))
        patterns = recorder.subscribed(session, classes, first=True)
        if not patterns or not any(recorder.wanted(session, one, patterns) for one in classes):
            return None
        return BulkWrite(session, classes[0], recorder, lambda one: recorder.wanted(session, one, patterns), fate)

    def _fate(self, state: ORMExecuteState, mapper: Mapper[Any]) -> Fate | None:
        """What a statement does to rows that are there, as far as anything may come of that for others."""
        statement: Any = state.statement
        if state.is_delete:
            return GONE
        if state.is_insert:
            replaces = any("REPLACE" in str(prefix).upper() for prefix, _ in statement._prefixes)  # noqa: SLF001  # nothing public has them
            return GONE if replaces else self._fate_of(mapper) if may_meet_others(statement) else None
        given = [*(statement._values or ()), *(name for name, _ in getattr(statement, "_ordered_values", None) or ())]  # noqa: SLF001  # as above; 2.0 has two
        names = (name if isinstance(name, str) else name.key for name in given)
        return self._fate_of(mapper, names=[*names, *_names(state.parameters)])

    def _fate_of(self, mapper: Mapper[Any], *, names: Iterable[str] | None = None) -> Fate | None:
        """The same, where attributes or columns of these names are set; any, if that is not known."""
        keys, given = self._recorder.references.current().keys(mapper), set(names or ())
        columns = [column for name, column in keys.items() if names is None or not given.isdisjoint((name, column.key))]
        return Fate(frozenset(columns)) if columns else None

    # ------------------------------------------------------------------ statements

    def _insert(self, state: ORMExecuteState, mapper: Mapper[Any], write: BulkWrite) -> Result[Any] | None:
        if isinstance(state.parameters, list) and self._is_too_much(len(state.parameters), mapper):
            return None
        session, statement = state.session, state.statement
        inserts = Inserts(mapper, meet=lambda connection, rows: write.meet(mapper, connection, rows))
        asked = bool(statement._returning)  # type: ignore[attr-defined]  # noqa: SLF001  # nothing public tells
        if asked:
            statement = statement.returning(*_key_attributes(mapper))  # type: ignore[attr-defined]  # it is an INSERT
        with (
            self._failing(write, lambda: self._end_inserts(write, [(mapper, inserts)]), inserts=inserts),
            self._looking_at(session, inserts, mapper),
        ):
            result = _inserted(state, statement, mapper, inserts=inserts)
        with _or_nothing(session):
            if asked:
                inserts.identities, result = _without_key(result, width=len(mapper.primary_key))
            self._end_inserts(write, [(mapper, inserts)])
        return result

    def _update_by_key(self, state: ORMExecuteState, mapper: Mapper[Any], write: BulkWrite) -> Result[Any] | None:
        """`session.execute(update(User), [{"id": 1, "name": "new"}, …])`."""
        parameters: Any = state.parameters
        if self._is_too_much(len(parameters), mapper):
            return None
        self._note_by_key(write, mapper, parameters)
        with self._failing(write, lambda: write.end({}, moved={})):
            result = state.invoke_statement()
        with _or_nothing(state.session):
            write.end({}, moved={})
        return result

    def _change(self, state: ORMExecuteState, mapper: Mapper[Any], write: BulkWrite) -> Result[Any]:
        told = True

        def tell(found: Sequence[tuple[Identity, Any]]) -> bool:
            nonlocal told
            connection = state.session.connection(bind_arguments=binds.writing(state.session, mapper))
            told = not self._is_too_much(len(found), mapper)
            others = write.reach(connection, by_kind(mapper, found)) if told else {}
            if others and self._is_too_much(len(found) + sum(map(len, others.values())), mapper):
                told = False
            if told:
                write.note(self._by_class(write, mapper, found, known=bool(changed.kind)))
                write.note(others)
            return told

        changed = Changed(mapper, lock=self._recorder.take_write_lock, tell=tell)
        with (
            self._failing(write, lambda: write.end({}, moved=changed.moved)),
            self._looking_at(state.session, changed, mapper),
        ):
            result = state.invoke_statement(execution_options={OPTION: changed})
        if told:
            with _or_nothing(state.session):
                write.end({}, moved=changed.moved)
        return result

    # ------------------------------------------------------------------ the session's bulk methods

    def save_objects(self, session: Session, objects: Sequence[object], save: Callable[[], None]) -> None:
        """`Session.bulk_save_objects`: *save* does it."""
        states = [instance_state(one) for one in objects]
        mappers = list(dict.fromkeys(state.mapper for state in states))
        fates = [self._fate_of(state.mapper, names=state.committed_state) for state in states if state.key is not None]
        changed = frozenset[Any]().union(*(fate.changed for fate in fates if fate is not None))
        write = self._begin(session, mappers, Fate(changed) if changed else None)
        if write is None or self._is_too_much(len(states), mappers[0]):
            save()
            return
        new: list[Mapper[Any]] = []
        for mapper in mappers:
            some = [state for state in states if state.mapper is mapper]
            old = [tuple(state.key[1]) for state in some if state.key is not None]
            self._note(write, mapper, old)
            new += [mapper] if len(old) < len(some) else []
        self._insert_by_method(write, new, save)

    def insert_mappings(self, session: Session, mapper: Mapper[Any], insert: Callable[[], None]) -> None:
        """`Session.bulk_insert_mappings`: *insert* does it."""
        write = self._begin(session, [mapper], None)
        if write is None:
            insert()
        else:
            self._insert_by_method(write, [mapper], insert)

    def update_mappings(
        self, session: Session, mapper: Mapper[Any], mappings: Sequence[Mapping[str, Any]], update: Callable[[], None]
    ) -> None:
        """`Session.bulk_update_mappings`: *update* does it."""
        write = self._begin(session, [mapper], self._fate_of(mapper, names=_names(mappings)))
        if write is None or self._is_too_much(len(mappings), mapper):
            update()
            return
        self._note_by_key(write, mapper, mappings)
        update()
        with _or_nothing(session):
            write.end({}, moved={})

    def _insert_by_method(self, write: BulkWrite, mappers: Sequence[Mapper[Any]], insert: Callable[[], None]) -> None:
        session = write.session
        # Classes that share a table share a watcher: which class a row is of, the row says.
        of_table = {mapper.primary_key[0].table: mapper for mapper in mappers}
        shared = [mapper.base_mapper if is_polymorphic(mapper) else mapper for mapper in of_table.values()]
        watchers = [(mapper, Inserts(mapper, meet=lambda *_: ())) for mapper in shared]
        with ExitStack() as stack:
            for mapper, inserts in watchers:
                stack.enter_context(self._looking_at(session, inserts, mapper, every=True))
            insert()
        with _or_nothing(session):
            self._end_inserts(write, watchers)

    # ------------------------------------------------------------------ what both share

    @contextmanager
    def _failing(
        self, write: BulkWrite, end: Callable[[], object], *, inserts: Inserts | None = None
    ) -> Iterator[None]:
        """
        If a statement fails, tell of what it leaves behind, with which the application may go on.

        Such as the rows before the one that was refused; or all of them, if
        somebody's listener fails after the statement. PostgreSQL leaves nothing.
        """
        try:
            yield
        except Exception as error:
            session = write.session
            refused = isinstance(error, DBAPIError)
            if session.is_active and not (refused and write.is_all_or_nothing):
                with suppress(SQLAlchemyError, WebhooksError), _or_nothing(session):  # what failed first is raised
                    if refused and inserts is not None and inserts.is_doubtful:
                        raise
                    end()
            raise

    @contextmanager
    def _looking_at(
        self, session: Session, watcher: Watcher, mapper: Mapper[Any], *, every: bool = False
    ) -> Iterator[None]:
        connection = session.connection(bind_arguments=binds.writing(session, mapper))
        with watching(connection, watcher, every=every):
            yield

    def _note_by_key(self, write: BulkWrite, mapper: Mapper[Any], rows: Iterable[Mapping[str, Any]]) -> None:
        session = write.session
        self._recorder.take_write_lock(session.connection(bind_arguments=binds.writing(session, mapper)))
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        identities = dict.fromkeys(tuple(row.get(name) for name in names) for row in rows)
        self._note(write, mapper, list(identities))

    def _note(self, write: BulkWrite, mapper: Mapper[Any], identities: Sequence[Identity]) -> None:
        session = write.session
        write.note(by_class(session, mapper, identities, plan_for=write.plan_for))
        if write.fate is not None:
            connection = session.connection(bind_arguments=binds.writing(session, mapper))
            cascades.lock(connection, mapper, identities)
            write.note(write.reach(connection, {mapper: identities}))

    def _by_class(
        self, write: BulkWrite, mapper: Mapper[Any], found: Sequence[tuple[Identity, Any]], *, known: bool
    ) -> dict[Plan, list[Identity]]:
        if known:
            return of_kinds(mapper, found, plan_for=write.plan_for)
        identities = [identity for identity, _ in found]
        return by_class(write.session, mapper, identities, plan_for=write.plan_for)

    def _end_inserts(self, write: BulkWrite, inserted: Sequence[tuple[Mapper[Any], Inserts]]) -> None:
        new: dict[Plan, list[Identity]] = {}
        for mapper, inserts in inserted:
            known = [identity for identity in inserts.identities if None not in identity]
            if len(known) < len(inserts.identities):
                self._say_not_captured(mapper, "the database does not say which rows it has inserted")
            if self._is_too_much(len(known), mapper):
                return
            for plan, some in by_class(write.session, mapper, known, plan_for=write.plan_for).items():
                new.setdefault(plan, []).extend(some)
        changed = write.end(new, moved={})
        for _, inserts in inserted:
            inserts.restore_count(changed)

    def _is_too_much(self, rows: int, mapper: Mapper[Any]) -> bool:
        """
        Whether an operation of so many rows goes uncaptured.

        Raises:
            BulkLimitExceeded: It must not.
        """
        if rows <= self._limit:
            return False
        what = f"{rows} rows of {mapper.class_.__qualname__} in one statement, and bulk_limit is {self._limit}"
        if not self._skip:
            message = (
                f"{what}: write them in several statements, set a larger bulk_limit, or let such statements go "
                "uncaptured with beyond_bulk_limit='skip'"
            )
            raise BulkLimitExceeded(message)
        self._say_not_captured(mapper, what)
        return True

    def _say_not_captured(self, mapper: Mapper[Any], why: str) -> None:
        logger.warning("changes of %s are not captured: %s", mapper.class_.__qualname__, why)


@contextmanager
def _or_nothing(session: Session) -> Iterator[None]:
    """
    Roll back what was written, if it cannot be told of.

    An application that goes on after the error and commits would else commit a
    change without its event. It must call `rollback()`, as after a failed flush,
    whose way to say so this is.
    """
    try:
        yield
    except BaseException:
        if session.is_active:
            part = session._autobegin_t()._begin()  # noqa: SLF001  # as `Session._flush` begins its own
            part.rollback(_capture_exception=True)
        raise


def _inserted(state: ORMExecuteState, statement: Any, mapper: Mapper[Any], *, inserts: Inserts) -> Result[Any]:
    """
    Execute an INSERT.

    Row by row, where the database tells the key of one row only, and some must
    be told; the result of the last is as that of all.
    """
    rows, options = state.parameters, {OPTION: inserts}
    dialect = state.session.get_bind(mapper).dialect
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    if (
        dialect.insert_returning
        or not isinstance(rows, list)
        or all(row.get(name) is not None for row in rows for name in names)
    ):
        return state.invoke_statement(statement=statement, execution_options=options)
    try:
        for row in rows:
            state.parameters = [row]
            result = state.invoke_statement(statement=statement, execution_options=options)
    finally:
        state.parameters = rows
    return result


def _names(rows: Any) -> set[str]:
    """What is given in the parameters of a statement: one mapping or several."""
    several = rows if isinstance(rows, Sequence) else [rows or {}]
    return {name for row in several for name in row}


def _key_attributes(mapper: Mapper[Any]) -> list[Any]:
    return [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]


def _without_key(result: Result[Any], *, width: int) -> tuple[list[Identity], Result[Any]]:
    """The primary keys that stand last in each row of *result*, and the result that was asked for."""
    asked = len(result.keys()) - width
    frozen = result.freeze()
    rows = [tuple(row) for row in frozen()]
    thin = frozen().columns(*range(asked))
    if isinstance(result, ChunkedIteratorResult):  # what the ORM gives: the caller's is one too
        thin = ChunkedIteratorResult(thin._metadata, lambda _: iter([rows]))  # noqa: SLF001  # nothing public has them
    return [row[asked:] for row in rows], thin
