"""Everything that was generated, with its record; favourites, and deletion that can be undone."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from magictailor.common.files import write_json
from magictailor.studio.jobs.job import IMAGES, IMAGES_FILE, THUMBS
from magictailor.studio.jobs.store import JobStore
from magictailor.studio.live import Tail
from magictailor.studio.workspace import NotThere

MARKS_FILE = "gallery.json"
MOST = 500  # pictures of one answer
SEARCHED = ("prompt", "method", "pair", "model", "job")


class Gallery:
    """The pictures of all generating jobs, the newest first. Its functions may be called from any thread.

    A picture's id is its job and its name: ``00004-generate/00001``. Jobs write pictures and their lines; marks
    (favourite, deleted) are the studio's, in ``gallery.json``.
    """

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._tails: dict[str, Tail] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._file = store.workspace.root / MARKS_FILE
        self._favourites, self._deleted = self._read_marks()

    def find(
        self,
        text: str = "",
        *,
        favourite: bool = False,
        jobs: Sequence[str] = (),
        prompts: Sequence[str] = (),
        offset: int = 0,
        limit: int = 200,
    ) -> dict[str, Any]:
        """``total`` and ``rows`` of what matches: each word of ``text`` in prompt, method, pair, model or job.

        ``jobs``, ``prompts``: only pictures of these; none given: of any.
        """
        words = text.lower().split()
        with self._lock:
            self._refresh()
            found = [
                row
                for job in sorted(self._rows, reverse=True)
                if not jobs or job in jobs
                for row in reversed(self._rows[job])
                if row["id"] not in self._deleted
                and (not prompts or row["prompt"] in prompts)
                and (not favourite or row["id"] in self._favourites)
                and all(word in row["searched"] for word in words)
            ]
            part = found[max(0, offset) : max(0, offset) + min(limit, MOST)]
            rows = [self._shown(row) for row in part]
        return {"total": len(found), "offset": offset, "rows": rows}

    def mark(self, ids: Sequence[str], *, favourite: bool | None = None, deleted: bool | None = None) -> None:
        """Set or clear marks. Raises NotThere for an unknown picture."""
        with self._lock:
            self._refresh()
            known = {row["id"] for rows in self._rows.values() for row in rows}
            if unknown := [id for id in ids if id not in known]:
                raise NotThere(f"{unknown[0][:60]}: not in the gallery", "reload the page")
            favourites, gone = set(self._favourites), set(self._deleted)
            for marks, value in ((favourites, favourite), (gone, deleted)):
                if value is not None:
                    (marks.update if value else marks.difference_update)(ids)
            write_json(self._file, {"favourites": sorted(favourites), "deleted": sorted(gone)})
            self._favourites, self._deleted = favourites, gone

    def empty_bin(self) -> int:
        """Remove the files of deleted pictures; returns how many."""
        with self._lock:
            for id in self._deleted:
                for path in self._files(id):
                    path.unlink(missing_ok=True)
            return len(self._deleted)

    def file(self, job: str, name: str, *, thumb: bool = False) -> Path:
        """A picture, or its small copy. Raises NotThere."""
        find = self.store.workspace.find
        if thumb:
            try:
                return find("jobs", job, THUMBS, f"{name}.webp")
            except NotThere:
                pass  # small pictures have none
        return find("jobs", job, IMAGES, f"{name}.png")

    def _files(self, id: str) -> list[Path]:
        job, _, name = id.partition("/")
        folder = self.store.workspace.jobs / job
        return [folder / IMAGES / f"{name}.png", folder / THUMBS / f"{name}.webp"]

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {k: v for k, v in row.items() if k != "searched"}
        return shown | {"favourite": row["id"] in self._favourites}

    def _refresh(self) -> None:
        """Read what jobs have written since the last look."""
        ids = [id for id in self.store.ids() if id.endswith("-generate")]
        for gone in set(self._rows) - set(ids):
            del self._rows[gone], self._tails[gone]
        for id in ids:
            tail = self._tails.setdefault(id, Tail(self.store.workspace.jobs / id / IMAGES_FILE))
            anew, rows = tail.read()
            kept = [] if anew else self._rows.setdefault(id, [])
            self._rows[id] = kept
            kept += [self._indexed(id, row) for row in rows]

    @staticmethod
    def _indexed(job: str, row: dict[str, Any]) -> dict[str, Any]:
        row = {**row, "id": f"{job}/{row['name']}", "job": job}
        return row | {"searched": " ".join(str(row.get(key, "")) for key in SEARCHED).lower()}

    def _read_marks(self) -> tuple[set[str], set[str]]:
        try:
            tree = json.loads(self._file.read_text("utf-8"))
            return set(map(str, tree["favourites"])), set(map(str, tree["deleted"]))
        except (OSError, ValueError, KeyError, TypeError):
            return set(), set()
