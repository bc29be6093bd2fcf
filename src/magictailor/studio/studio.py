"""The studio as one object: pairs, masks, jobs, gallery. What the page can do, and Python as well."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from magictailor.backbones.families import family_on_disk
from magictailor.common.errors import InputError
from magictailor.generation.checks import check_prompt
from magictailor.methods import recipe_for
from magictailor.recipe import Recipe
from magictailor.studio.adoption import adopt, adopt_from_world
from magictailor.studio.assistant import MaskSuggester
from magictailor.studio.expectation import Expectation, expect
from magictailor.studio.gallery import Gallery
from magictailor.studio.jobs import ExportSpec, GenerateSpec, JobStore, MasksSpec, Runner, Spec, TrainSpec
from magictailor.studio.jobs.job import RUN, result_folder
from magictailor.studio.jobs.store import Status
from magictailor.studio.live import Live, run_facts
from magictailor.studio.machine import cards
from magictailor.studio.pair_view import summary
from magictailor.studio.pairs import PairStore
from magictailor.studio.uploads import MAX_BYTES
from magictailor.studio.workspace import AllowedFolders, Workspace, checked_name, studio_root
from magictailor.weights import BASES

DEMO_PAIR = 100_000_060
# The size of a base's images and the grids on which losses read masks, by what the base is. A test compares the first.
GRIDS: Mapping[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "embedded": (128, ((16, 16), (16, 16))),
    "sd": (512, ((64, 64), (16, 16))),
}
MOST_STAGED = 500  # files of a folder that is uploaded


class Studio:
    """A folder, and all that works in it.

    Args:
        root: the studio's folder; it is made if it is not there.
        models, loras, exports: folders elsewhere that its owner allows, see `AllowedFolders`.

    Raises:
        InputError: a folder that cannot be used.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        models: Path | None = None,
        loras: Path | None = None,
        exports: Mapping[str, Path] | None = None,
    ) -> None:
        self.allowed = AllowedFolders.of(studio_root(root), models=models, loras=loras, exports=exports)
        self.workspace = Workspace(root)
        self.pairs, self.jobs = PairStore(self.workspace), JobStore(self.workspace)
        self.runner = Runner(self.jobs, self.allowed, one_card=bool(self.cards))
        self.live, self.gallery, self.suggester = Live(self.jobs), Gallery(self.jobs), MaskSuggester()

    def __enter__(self) -> "Studio":
        """Start working on the queue."""
        self.runner.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Jobs that run go on."""
        self.close()

    def close(self) -> None:
        self.runner.close()
        self.live.close()
        self.suggester.close()

    @property
    def cards(self) -> list[dict[str, Any]]:
        """The machine's NVIDIA cards: name and GB."""
        return list(cards())

    # --- pairs

    def pair(self, id: str, model: str = "embedded") -> dict[str, Any]:
        """All that a page shows of a pair, with warnings for a base."""
        kind = "embedded" if model in BASES else "sd"
        return summary(self.pairs, id, {kind: GRIDS[kind]})

    def demo_pair(self, seed: int = DEMO_PAIR) -> str:
        """The demo's pair of the world, made unless the studio has pairs already; returns the id of the newest."""
        existing = self.pairs.ids()
        return existing[0] if existing else adopt_from_world(self.pairs, seed)

    def new_folder(self) -> str:
        """A place for the files of a folder that is uploaded; returns its name."""
        for old in self.workspace.staging.iterdir():  # one at a time; what was left unfinished goes
            shutil.rmtree(old, ignore_errors=True)
        name = uuid4().hex
        (self.workspace.staging / name).mkdir()
        return name

    def stage(self, folder: str, path: str, content: bytes) -> None:
        """Put a file there. Raises InputError: a path that leads elsewhere, too large, or too many files."""
        root = self.workspace.find("staging", folder)
        parts = [part for part in path.replace("\\", "/").split("/") if part]
        if not parts or len(parts) > 4 or any(p in (".", "..") or "\x00" in p or len(p) > 200 for p in parts):
            raise InputError(f"{path[:80]!r}: not a path inside the folder", "choose the pair's own folder")
        if len(content) > MAX_BYTES or sum(1 for _ in root.rglob("*")) >= MOST_STAGED:
            raise InputError("too large a folder", f"at most {MOST_STAGED} files of {MAX_BYTES // 2**20} MB each")
        target = root.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def adopt_folder(self, folder: str, name: str) -> str:
        """Make a pair of the uploaded folder; returns its id."""
        root = self.workspace.find("staging", folder)
        inside = list(root.iterdir())
        source = inside[0] if len(inside) == 1 and inside[0].is_dir() else root
        try:
            return adopt(self.pairs, source, name or source.name)
        except InputError as error:
            raise InputError(error.problem.replace(f"{root}/", ""), error.fix) from error
        finally:
            shutil.rmtree(root, ignore_errors=True)

    # --- jobs

    def submit(self, spec: Spec, title: str = "") -> Status:
        """Queue a job, after a check of all that can be checked without loading a model.

        Raises:
            InputError: something about it cannot be; nothing has been written.
        """
        if isinstance(spec, TrainSpec):
            own, copy = self._check_training(spec), self.pairs.snapshot(spec.pair)

            def prepare(folder: Path) -> None:
                copy(folder)
                (folder / RUN / spec.pair).mkdir(parents=True)

            return self.jobs.add(spec, title or own, prepare)
        if isinstance(spec, GenerateSpec):
            own = self._check_generating(spec)
        elif isinstance(spec, MasksSpec):
            own = f"masks of {self.pairs.read(spec.pair).name} by {spec.model}"
        else:
            own = self._check_export(spec)
        return self.jobs.add(spec, title or own)

    def result(self, source: str) -> Status:
        """The training of a result: one that is done, or a checkpoint that it has kept. Raises InputError."""
        id, at, step = source.partition("@")
        found = self.jobs.status(id)
        if found.job.spec.kind != "train" or (not at and found.state != "done"):
            raise InputError(f"{id}: not a finished training", "wait for it, or choose another", field="run")
        if at and not result_folder(self.workspace.jobs, source).is_dir():
            raise InputError(f"{id}: has no checkpoint of step {step}", "choose another", field="run")
        return found

    def _check_training(self, spec: TrainSpec) -> str:
        found = self.pair(spec.pair, spec.model)
        if found["problems"]:
            raise InputError(found["problems"][0], "the pair is not ready to train", field="pair")
        for name in spec.loras:
            self.allowed.lora(name)
        self.recipe(spec.method, spec.model, spec.settings)
        if spec.start is not None:
            self.result(spec.start)
        return f"{found['name']}, {spec.method}"

    def _check_generating(self, spec: GenerateSpec) -> str:
        for run in spec.runs:
            words = run_facts(self.jobs.folder(self.result(run).job.id)).get("words", {})
            for prompt in spec.prompts:
                check_prompt(prompt, list(words))
        for name in spec.loras:
            self.allowed.lora(name)
        return spec.prompts[0] if len(spec.prompts) == 1 else f"{len(spec.prompts)} prompts: {spec.prompts[0]}"

    def _check_export(self, spec: ExportSpec) -> str:
        title = self.result(spec.run).job.title + (f", step {step}" if (step := spec.run.partition("@")[2]) else "")
        if spec.target is not None and spec.target not in self.allowed.exports:
            raise InputError(f"{spec.target}: not a folder of this studio", "choose from the list", field="target")
        return f"{title} for {', '.join(spec.formats)}"

    # --- choices

    def family(self, model: str) -> str | None:
        """The family of a base; None: it is not downloaded yet. Raises InputError: no such base."""
        return family_on_disk(self.allowed.model(model))

    def recipe(self, method: str, model: str = "embedded", settings: tuple[str, ...] = ()) -> Recipe:
        """A method's whole recipe on a base; the paper's, as long as the base is not downloaded.

        Raises:
            InputError: no such base, unknown method or setting.
        """
        return recipe_for(self.family(model) or "sd1", method, settings)

    def expect(self, spec: TrainSpec) -> Expectation:
        """Steps, preset, time and memory of a training, as far as they are known. Raises InputError."""
        earlier = ((s, self.jobs.folder(s.job.id)) for s in self.jobs.statuses() if s.job.spec.kind == "train")
        photos = sum(len(sample.photos) for sample in self.pairs.read(spec.pair).samples)
        recipe = self.recipe(spec.method, spec.model, spec.settings)
        return expect(spec, recipe, self.family(spec.model), photos, earlier, self.cards)

    def job_file(self, id: str, *names: str) -> Path:
        return self.workspace.find("jobs", checked_name(id), *names)
