"""What a job is: its specification, what is wanted of it, and the state that follows from its folder.

Two files say all, and each has one writer. ``job.json``, by the studio: what to do, and what is wanted (run, pause, stop).
``outcome.json``, by the job's own process: which attempt began, and how it ended. Whether it is running is said by a lock that
the system frees with the process, and by nothing else: no process number, no clock.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from magictailor.training.run_folder import checkpoint_folder

JOB_FILE, OUTCOME_FILE, LOCK_FILE = "job.json", "outcome.json", "lock"
EVENTS_FILE, LOG_FILE, IMAGES_FILE = "events.jsonl", "log.txt", "images.jsonl"
RUN, PAIR, IMAGES, THUMBS = "run", "pair", "images", "thumbs"  # folders of a job

State = Literal["queued", "running", "pausing", "stopping", "paused", "stopped", "interrupted", "failed", "done"]
ENDED: tuple[State, ...] = ("paused", "stopped", "interrupted", "failed", "done")
Wanted = Literal["run", "pause", "stop"]
Outcome = Literal["stopped", "failed", "done"]

Text = Annotated[str, Field(max_length=500)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
# A training, or a checkpoint that it has kept: 00001-train, 00001-train@100.
Source = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}(@[0-9]{1,8})?$")]
LoRA = Annotated[str, Field(max_length=200)]


class Model(BaseModel):
    """Base of all that is stored: frozen; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainSpec(Model):
    """Arguments of `magictailor.personalize`; the pair is copied into the job's folder when it is queued."""

    kind: Literal["train"] = "train"
    pair: Id
    model: Annotated[str, Field(min_length=1, max_length=300)] = "embedded"
    method: Annotated[str, Field(max_length=80)] = "magictailor"
    settings: tuple[Text, ...] = Field((), max_length=200)
    preset: Literal["8gb", "12gb", "16gb", "24gb", "fast"] | None = None
    precision: Literal["fp32", "bf16", "fp16", "int8", "nf4"] | None = None
    device: Literal["cpu", "cuda", "mps"] | None = None
    loras: tuple[LoRA, ...] = Field((), max_length=8)
    start: Source | None = None  # whose LoRA and pseudo-words it starts from


class GenerateSpec(Model):
    """Arguments of `magictailor.Run.generate`, for one result or for several side by side."""

    kind: Literal["generate"] = "generate"
    runs: tuple[Source, ...] = Field(min_length=1, max_length=12)
    prompts: tuple[Text, ...] = Field(min_length=1, max_length=100)
    number: int = Field(4, ge=1, le=10_000)
    seed: int = Field(0, ge=0, lt=2**32)
    steps: int | None = Field(None, ge=1, le=1000)
    guidance: float | None = Field(None, ge=0, le=100)
    emphasis: float | None = Field(None, ge=0, le=2)
    scheduler: Literal["ddim", "dpm++", "dpm++-karras", "sde-dpm++", "own", "euler"] | None = None  # the family's own
    loras: tuple[LoRA, ...] = Field((), max_length=8)

    @model_validator(mode="after")
    def _few_enough(self) -> "GenerateSpec":
        if (count := len(self.runs) * len(self.prompts) * self.number) > 20_000:
            raise ValueError(f"{count} images at once; ask for at most 20000")
        return self


class MasksSpec(Model):
    """Arguments of `magictailor.segmentation.make_masks`, on a pair of the studio."""

    kind: Literal["masks"] = "masks"
    pair: Id
    model: Literal["clipseg", "dino+sam", "dino+sam2", "sam3", "embedded"]
    threshold: float = Field(0.25, ge=0, le=1)
    counts: dict[Annotated[str, Field(max_length=60)], Annotated[int, Field(ge=1, le=20)]] = Field({}, max_length=20)
    soft: bool = False
    overwrite: bool = False


class ExportSpec(Model):
    """Arguments of `magictailor.export`, for several tools at once. ``target``: a folder that the studio's owner allowed."""

    kind: Literal["export"] = "export"
    run: Source
    formats: tuple[Literal["diffusers", "kohya", "comfyui", "merged", "checkpoint"], ...] = Field(
        min_length=1, max_length=5
    )
    half: bool = False
    bundle: bool = False
    target: Annotated[str, Field(max_length=80)] | None = None


Spec = Annotated[TrainSpec | GenerateSpec | MasksSpec | ExportSpec, Field(discriminator="kind")]


class Job(Model):
    """``job.json``.

    Attributes:
        attempt: counts from 1; each resume and retry is a new one.
        order: jobs of a kind run by rising order.
        wanted: run, pause or stop.
        asked: how often each of "preview" and "checkpoint" was asked for.
        created: seconds since 1970, for display only.
    """

    id: Id
    title: Annotated[str, Field(max_length=200)]
    spec: Spec
    order: float
    attempt: int = Field(1, ge=1)
    wanted: Wanted = "run"
    asked: dict[Literal["preview", "checkpoint"], int] = {}
    created: float = 0.0


class JobOutcome(Model):
    """``outcome.json``: attempt ``attempt`` began, and ended so; None: it is running, or was cut short."""

    attempt: int
    outcome: Outcome | None = None
    message: str = ""
    fix: str = ""
    pid: int = 0  # meaningful only while the lock is held
    result: dict[str, Any] = {}


def state_of(job: Job, ending: JobOutcome | None, locked: bool) -> State:
    """The state of a job, from what its folder says. ``locked``: whether a process holds the job's lock."""
    begun = ending is not None and ending.attempt >= job.attempt
    if locked:
        return {"run": "running", "pause": "pausing", "stop": "stopping"}[job.wanted]  # type: ignore[return-value]
    if ending is not None and begun and ending.outcome in ("done", "failed"):
        return ending.outcome
    if ending is not None and begun and ending.outcome is None:
        return "interrupted"
    if job.wanted != "run":
        return "paused" if job.wanted == "pause" else "stopped"
    return "stopped" if begun else "queued"


def run_folder(folder: Path) -> Path:
    """The run of a training's folder. It has the pair's name, which exported files begin with."""
    return next((path for path in (folder / RUN).glob("*") if path.is_dir()), folder / RUN / "none")


def result_folder(jobs: Path, source: str) -> Path:
    """The run that a `Source` names, in the folder of all jobs."""
    id, _, step = source.partition("@")
    run = run_folder(jobs / id)
    return checkpoint_folder(run, int(step)) if step else run
