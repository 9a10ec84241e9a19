"""Rules for rows that belong together."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from support.machine.kinds import KINDS, Kind
from support.machine.models import Author, Book, Box, Fan, Item, Member, Node, Page, Post, Tag, Team
from support.machine.work import LANES, NUMBERS, Lane, Work

KIND_OF: dict[type[Any], Kind] = {kind.cls: kind for kind in KINDS}


class Families(Work):
    """Rows are put under others, taken away, handed on, and linked."""

    @rule(lane=LANES, books=st.integers(0, 3), pages=st.integers(0, 2))
    def write_books(self, lane: int, books: int, pages: int) -> None:
        with self.at_work(lane) as work:
            made = [
                Book(lane=work.number, pages=[Page(lane=work.number, number=number) for number in range(pages)])
                for _ in range(books)
            ]
            author = Author(books=made)
            work.add(author)
            for book in made:
                work.keep(book)
                for page in book.pages:
                    work.keep(page)

    @rule(lane=LANES, number=NUMBERS, title=st.sampled_from(["s", "t"]), blurb=st.sampled_from([None, "b"]))
    def change_a_book(self, lane: int, number: int, title: str, blurb: str | None) -> None:
        with self.at_work(lane) as work:
            if (book := work.some(Book, number)) is not None:
                book.title, book.blurb = title, blurb

    @rule(lane=LANES, number=NUMBERS, words=st.integers(0, 2))
    def write_a_page(self, lane: int, number: int, words: int) -> None:
        with self.at_work(lane) as work:
            if (page := work.some(Page, number)) is not None and number % 3:
                page.words = words
            elif (book := work.some(Book, number)) is not None:
                free = max((one.number for one in book.pages), default=0) + 1
                book.pages.append(work.keep(Page(lane=work.number, number=free, words=words)))

    @rule(lane=LANES, number=NUMBERS, how=st.sampled_from(["orphan", "clear", "delete", "pages"]))
    def lose_books(self, lane: int, number: int, how: str) -> None:
        with self.at_work(lane) as work:
            book = work.some(Book, number)
            author = book.author if book is not None else None
            if author is None or not author.books:
                return
            if how == "orphan":
                author.books.pop()
            elif how == "clear":
                author.books = []
            elif how == "delete":
                work.session.delete(author.books[0])
            else:
                author.books[0].pages.clear()

    @rule(lane=LANES, number=NUMBERS, to=NUMBERS)
    def hand_a_book_on(self, lane: int, number: int, to: int) -> None:
        with self.at_work(lane) as work:
            book = work.some(Book, number)
            author = work.some_or_new(KIND_OF[Author], to)
            if book is not None:
                book.author = author

    @rule(lane=LANES, number=NUMBERS, to=NUMBERS, how=st.sampled_from(["attribute", "key", "collection", "none"]))
    def join_a_team(self, lane: int, number: int, to: int, how: str) -> None:
        with self.at_work(lane) as work:
            member = work.some_or_new(KIND_OF[Member], number)
            team = work.some_or_new(KIND_OF[Team], to)
            if how == "attribute":
                member.team = team
            elif how == "collection" and member not in team.members:
                team.members.append(member)
            elif how == "key":
                work.session.flush()
                member.team_id = team.id
            elif how == "none":
                member.team = None

    @rule(lane=LANES, number=NUMBERS, items=st.integers(0, 2))
    def pack_a_box(self, lane: int, number: int, items: int) -> None:
        with self.at_work(lane) as work:
            box = work.some_or_new(KIND_OF[Box], number)
            box.items.extend(work.keep(Item(lane=work.number)) for _ in range(items))
            if not items and box.items:
                box.items.pop()

    @rule(lane=LANES, number=NUMBERS, to=NUMBERS, how=st.sampled_from(["parent", "child", "favourite", "self", "none"]))
    def tie_nodes(self, lane: int, number: int, to: int, how: str) -> None:
        with self.at_work(lane) as work:
            node, other = work.some_or_new(KIND_OF[Node], number), work.some_or_new(KIND_OF[Node], to)
            if how == "parent" and node is not other:
                if not _is_above(node, other):
                    node.parent = other
            elif how == "child":
                node.children.append(work.add(Node()))
            elif how == "favourite":
                node.favourite = other
            elif how == "self":
                node.favourite = node
            else:
                node.parent = node.favourite = None

    @rule(lane=LANES, number=NUMBERS, names=st.lists(NUMBERS, max_size=3), how=st.sampled_from(["add", "put", "cut"]))
    def tag_a_post(self, lane: int, number: int, names: list[int], how: str) -> None:
        with self.at_work(lane) as work:
            post = work.some_or_new(KIND_OF[Post], number)
            tags = _unique([_tag(work, name) for name in names])
            if how == "put":
                post.tags = tags
            for tag in tags:
                if how == "add" and tag not in post.tags:
                    post.tags.append(tag)
                elif how == "cut" and tag in post.tags:
                    post.tags.remove(tag)

    @rule(lane=LANES, name=NUMBERS, number=NUMBERS)
    def tag_from_the_other_side(self, lane: int, name: int, number: int) -> None:
        with self.at_work(lane) as work:
            tag, post = _tag(work, name), work.some_or_new(KIND_OF[Post], number)
            if post in tag.posts:
                tag.posts.remove(post)
            else:
                tag.posts.append(post)

    @rule(lane=LANES, number=NUMBERS, fans=st.lists(NUMBERS, max_size=3), keep=st.booleans())
    def be_liked(self, lane: int, number: int, fans: list[int], keep: bool) -> None:
        with self.at_work(lane) as work:
            post = work.some_or_new(KIND_OF[Post], number)
            if not keep:
                post.fans.clear()
            post.fans.update(work.some_or_new(KIND_OF[Fan], fan) for fan in fans)


def _tag(work: Lane, number: int) -> Tag:
    key = KIND_OF[Tag].identity(work.number, number)
    found = work.session.get(Tag, key["name"])
    if found is None:
        pending = [one for one in work.held(Tag) if one.name == key["name"]]
        found = pending[0] if pending else work.add(Tag(**key))
    return found


def _is_above(node: Node, other: Node | None) -> bool:
    seen: list[Node] = []  # what was forgotten before it was flushed can leave a circle
    while other is not None and other not in seen:
        seen.append(other)
        other = other.parent
    return node in seen


def _unique(tags: list[Tag]) -> list[Tag]:
    return list(dict.fromkeys(tags))
