"""Finds changes without an event: bulk imports, older databases, deleted repos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from embed_star.embed import text
from embed_star.embed.passages import row_hash
from embed_star.errors import StoreError
from embed_star.models import Key, Lane, Space
from embed_star.produce.under_way import UnderWay
from embed_star.store.client.codec import encode_key
from embed_star.store.tables import failures
from embed_star.store.tables.checkpoints import Checkpoints, Phase, Progress
from embed_star.store.tables.orphans import Orphans, Swept
from embed_star.store.tables.outbox import Outbox
from embed_star.store.tables.repos import Repos, RepoState
from embed_star.store.tables.vectors import Vectors
from embed_star.values import printed

ENOUGH_ROWS = 10_000
"""A walk pauses while the backfill lane holds more rows: the workers have enough to do, and
the outbox of a table with a million rows stays short."""

FRESH_ROWS = 500
"""A walk waits while the fresh lane holds more rows: those would all look stale to it."""

PUT_OFF_S = 600.0
"""Fresh rows put a walk off for this long at most: there may always be many of them."""

MOST_CLAIMED = 1000
"""Rows that a walk remembers because runs held them; it announces any others at once."""


class RetiredSpaces(Protocol):
    """The records of spaces: `store.tables.spaces.Spaces`, or in memory."""

    def retired(self) -> list[Space]:
        """The spaces that are not active and whose table is there, by name."""

    def with_passages(self) -> list[Space]:
        """The spaces, active or retired, that have a table of passages."""


class Reconciler:
    """Walks `repo`, the vector table, the failures, the tables of retired spaces, and passages.

    Each step reads one page by key range, announces its stale rows in the backfill lane, and
    saves a checkpoint: a walk that is stopped goes on from there. Rows that are pending are left
    to their records in the outbox. Rows that a run holds are looked at again at the end of
    the first phase: the run may have read them before they changed. To announce a row twice
    costs one read, never a second payment. Failures and retired vectors of deleted repos are
    removed at once, since no run works on them, and so are passages that no vector counts.
    """

    def __init__(
        self,
        *,
        repos: Repos,
        vectors: Vectors,
        outbox: Outbox,
        under_way: UnderWay,
        orphans: Orphans,
        spaces: RetiredSpaces,
        checkpoints: Checkpoints,
        text_max_tokens: int,
        page_rows: int,
    ) -> None:
        self._repos = repos
        self._vectors = vectors
        self._outbox = outbox
        self._under_way = under_way
        self._orphans = orphans
        self._spaces = spaces
        self._checkpoints = checkpoints
        self._text_max_tokens = text_max_tokens
        self._page_rows = page_rows

    def due(self, interval_s: float) -> bool:
        """Whether no walk is finished, or the last one finished `interval_s` ago or earlier."""
        progress = self._checkpoints.load()
        if progress is None or progress.phase is not Phase.DONE:
            return True
        age = self._checkpoints.finished_age()
        return age is None or age >= timedelta(seconds=interval_s)

    def backlog_is_short(self) -> bool:
        """Whether the backfill lane has room for the stale rows of a page."""
        return not self._outbox.is_longer(Lane.BACKFILL, ENOUGH_ROWS)

    def may_walk(self) -> bool:
        """Whether both lanes are short, or the backfill lane is and the walk was put off enough."""
        if not self.backlog_is_short():
            return False
        if not self._outbox.is_longer(Lane.FRESH, FRESH_ROWS):
            return True
        age = self._checkpoints.unfinished_age()
        return age is None or age >= timedelta(seconds=PUT_OFF_S)

    def begin(self) -> Progress:
        """The progress of the unfinished walk, or of a new one."""
        self._under_way.forget()
        progress = self._checkpoints.load()
        if progress is None or progress.phase is Phase.DONE:
            progress = Progress()
            self._checkpoints.save(progress)
        return progress

    def step(self, progress: Progress) -> Progress:
        """Do one page; the progress after it. Its phase is DONE at the end of the walk."""
        steps = {
            Phase.REPOS: self._step_repos,
            Phase.VECTORS: self._step_vectors,
            Phase.FAILURES: self._step_failures,
            Phase.RETIRED: self._step_retired,
        }
        if progress.waits:
            progress = self._look_again(progress)
        after = steps[progress.phase](progress)
        self._checkpoints.save(after)
        return after

    def _step_repos(self, progress: Progress) -> Progress:
        page = self._repos.page(progress.after, self._page_rows)
        claimed, free = self._under_way.sort([key for key, _ in self._stale(page.states)])
        room = MOST_CLAIMED - len(progress.claimed)
        # Read again: a run may have written them since the page was read.
        found = self._stale(self._load([*free, *claimed[room:]]))
        found += [(key, 0) for key in page.unnoted]  # the producer saves them as failed
        progress = replace(progress, claimed=(*progress.claimed, *claimed[:room]))
        moved = self._advance(progress, page.keys, len(found), more=page.more)
        self._announce(found)
        return moved

    def _look_again(self, progress: Progress) -> Progress:
        """Announce the rows that were claimed and are stale, whether they still are claimed."""
        stale = [key for key, _ in self._stale(self._load(progress.claimed))]
        claimed, free = self._under_way.sort(stale)
        found = self._stale(self._load([*claimed, *free]))
        self._announce(found)
        return replace(progress, claimed=(), found=progress.found + len(found))

    def _load(self, keys: Sequence[Key]) -> list[RepoState]:
        return self._repos.load(keys, token="") if keys else []

    def _announce(self, found: Sequence[tuple[Key, int]]) -> None:
        if found:
            self._outbox.announce(found, Lane.BACKFILL)

    def _stale(self, states: Sequence[RepoState]) -> list[tuple[Key, int]]:
        """The stale rows among `states`, each with the length of its text."""
        return [(state.key, size) for state in states if (size := self._stale_size(state))]

    def _step_vectors(self, progress: Progress) -> Progress:
        keys = self._vectors.keys_page(progress.after, self._page_rows)
        self._vectors.refresh_names(keys)
        orphans = self._vectors.without_repo(keys)
        more = len(keys) == self._page_rows
        moved = self._advance(progress, keys, len(orphans), more=more)
        self._announce([(key, 0) for key in orphans])
        return moved

    def _step_failures(self, progress: Progress) -> Progress:
        keys, removed, more = self._orphans.sweep(failures.TABLE, progress.after, self._page_rows)
        progress = replace(progress, removed=progress.removed + removed)
        return self._advance(progress, keys, 0, more=more)

    def _step_retired(self, progress: Progress) -> Progress:
        """Do a page of the first unfinished table, and then go to the next one."""
        left = [one for one in self._tables() if one[0] >= progress.space]
        if not left:
            return progress.next_phase()
        (name, table, sweep), *others = left
        after = progress.after if name == progress.space else None
        keys, removed, more = sweep(table, after, self._page_rows)
        progress = replace(progress, space=name, removed=progress.removed + removed)
        advanced = self._advance(replace(progress, after=after), keys, 0, more=more)
        if advanced.phase is Phase.RETIRED or not others:
            return advanced
        return replace(progress, space=others[0][0], after=None)

    def _tables(self) -> list[tuple[str, str, Callable[[str, Key | None, int], Swept]]]:
        """What is swept: a name to go on by, the table, and how. A space's passages come after
        its vectors, which say what passages there are."""
        sweep, sweep_passages = self._orphans.sweep, self._orphans.sweep_passages
        tables = [(one.name, one.table, sweep) for one in self._spaces.retired()]
        tables += [
            (f"{one.name}_passages", one.passages_table, sweep_passages)
            for one in self._spaces.with_passages()
        ]
        return sorted(tables, key=lambda one: one[0])

    def _advance(self, progress: Progress, keys: list[Key], found: int, *, more: bool) -> Progress:
        """The progress after a page.

        Raises StoreError when the page repeats the last key: a key that the database returns
        altered would be read for ever.
        """
        if progress.after is not None:
            before = encode_key(progress.after)
            if any(encode_key(key) == before for key in keys):
                raise StoreError(
                    f"the reconcile does not get past the row with the key "
                    f"{printed(progress.after)}: SurrealDB answers with that row again"
                )
        moved = replace(
            progress,
            after=keys[-1] if keys else progress.after,
            checked=progress.checked + (len(keys) if progress.phase is Phase.REPOS else 0),
            found=progress.found + found,
        )
        return moved if more else moved.next_phase()

    def _stale_size(self, state: RepoState) -> int:
        """The length of the text if its vector is stale, else 0."""
        if state.unreadable:
            return int(state.failed_hash != "")
        rendered = text.render(state.values or (), self._text_max_tokens)
        if row_hash(text.text_hash(rendered), state.readme_hash) == state.settled_hash:
            return 0
        return len(rendered) or 1
