"""Run a bench: see what is missing, and have an executor do it. Finished work is never done again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack
from uuid import uuid4

from magictailor.backbones import Backbone, RuntimeOptions, load_backbone
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, Notice, Progress, ignore
from magictailor.evaluate.design import check_metrics, fix_design
from magictailor.evaluate.executors.context import Context
from magictailor.evaluate.executors.local import ThisProcess
from magictailor.evaluate.executors.processes import LocalProcesses
from magictailor.evaluate.executors.ray import TOKEN, RayCluster
from magictailor.evaluate.forecast import forecast, forecast_lines, known_seconds
from magictailor.evaluate.journal import Journal
from magictailor.evaluate.metrics import load_scorers
from magictailor.evaluate.metrics.scorer import Scorer
from magictailor.evaluate.planning import check_costs, unfinished
from magictailor.evaluate.records import parquet
from magictailor.evaluate.reporting.formats import aligned
from magictailor.evaluate.reporting.strata import strata_lines
from magictailor.evaluate.resources import expected_resources
from magictailor.evaluate.scheduling import Executor, Schedule, run_schedule
from magictailor.evaluate.sources import Source
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.stores import bench_files, open_store
from magictailor.evaluate.trials import Trial, make_trials, make_units
from magictailor.evaluate.work import is_trained, same_trainings, spec_scorers, trial_recipe
from magictailor.evaluate.workers import Workers
from magictailor.methods import REFERENCE_ONLY

READ = ("results", "costs", "design.json")  # parts of a bench that its driver reads
SHOWN_FAILURES = 5


def _with_trainings(spec: Spec, trials: Sequence[Trial], backbone: Backbone) -> list[Trial]:
    """The trials with the trainings that they share. Raises InputError if a method's settings do not fit its recipe."""
    if REFERENCE_ONLY in spec.methods and not backbone.takes_references:
        problem = f"{REFERENCE_ONLY}: {backbone.family} takes no reference images"
        raise InputError(problem, "leave it out, or choose FLUX.2", field="methods")
    trained = {trial.method: trial for trial in reversed(trials) if is_trained(trial.method)}
    same = same_trainings(
        {name: trial_recipe(backbone, trained[name], spec) for name in spec.methods if name in trained}
    )
    return [replace(trial, trained_as=same.get(trial.method)) for trial in trials]


def _executor(workers: Workers, context: Context, backbone: Backbone, token: str, listen: Listener) -> Executor:
    if workers.ray is not None:
        resources = expected_resources(backbone, context.threads, workers.card_gb)
        return RayCluster(context, workers.ray, resources, token, listen)
    return ThisProcess(context, listen) if workers.count == 1 else LocalProcesses(context, workers.count)


def _report(state: Schedule) -> None:
    """Raises RunError if units failed."""
    if not state.failed:
        return
    reasons = [f"{key} ({reason})" for key, reason in list(state.failed.items())[:SHOWN_FAILURES]]
    more = len(state.failed) - len(reasons)
    rest = f" and {more} more" if more else ""
    skipped = f", so {len(state.skipped)} that need them were left out" if state.skipped else ""
    raise RunError(
        f"{len(state.failed)} of {state.total} units failed{skipped}: {'; '.join(reasons)}{rest}; "
        "the same command tries them again"
    )


def run_bench(
    spec: Spec,
    sources: Sequence[Source],
    output: Path | str,
    listen: Listener = ignore,
    workers: Workers | None = None,
    **runtime: Unpack[RuntimeOptions],
) -> None:
    """Do everything that is missing in a bench.

    A killed worker loses at most the work since its last checkpoint, and its unit goes to another one. A killed driver
    takes its workers with it; the same call resumes. Scorers without their models are left out with a warning; a later
    call adds their scores.

    Args:
        output: a folder that all workers see, or a URL that fsspec knows.

    Raises:
        InputError: no scorer has its model or a named metric, settings do not fit a recipe, the folder has units of another bench, or a
            library is missing. Nothing has been trained.
        RunError: after all other units are done, if some units failed.
    """
    workers = workers or Workers()
    parquet()
    store, trials = open_store(output), list(make_trials(spec, sources))
    known = spec_scorers(spec)
    check_metrics(spec, known)
    scorers, notes = load_scorers(known)
    for note in notes:
        listen(Notice(note, warning=True))
    backbone = load_backbone(spec.model, **runtime)
    trials = _with_trainings(spec, trials, backbone)
    with store.only_driver():
        context = Context(spec, store, runtime, workers.unit_threads)
        _run(trials, scorers, backbone, context, workers, listen)


def _run(
    trials: Sequence[Trial],
    scorers: Mapping[str, Scorer],
    backbone: Backbone,
    context: Context,
    workers: Workers,
    listen: Listener,
) -> None:
    spec, store = context.spec, context.store
    with store.mirror(*READ) as home:
        check_costs(home, trials, spec, backbone.digest())
        units = make_units(list(unfinished(home, trials, spec, scorers)))
        fix_design(spec, store, home, len({trial.source.name for trial in trials}))
    if not units:
        listen(Progress("units", 3 * len(trials), 3 * len(trials)))
        return
    token = uuid4().hex
    store.write(TOKEN, token)
    executor = _executor(workers, context, backbone, token, listen)
    journal = Journal(store, lambda: executor.capacity)
    before, reported = 3 * len(trials) - len(units), set[str]()

    def report(state: Schedule) -> None:
        for key in state.failed.keys() - reported:
            reported.add(key)
            listen(Notice(f"{key} failed: {state.failed[key]}", warning=True))
        listen(Progress("units", before + state.finished, before + state.total))
        journal.note(state)

    try:
        with journal:
            state = run_schedule(units, executor, report)
    finally:
        executor.close()
    journal.end()
    _report(state)


def bench_forecast(
    spec: Spec, sources: Sequence[Source], output: Path | str, workers: Workers, **runtime: Unpack[RuntimeOptions]
) -> list[str]:
    """What `run_bench` would do and is expected to take, in words; nothing is written.

    Raises:
        InputError: what `run_bench` would refuse.
    """
    parquet()
    trials, known = list(make_trials(spec, sources)), spec_scorers(spec)
    check_metrics(spec, known)
    scorers, notes = load_scorers(known)
    backbone = load_backbone(spec.model, **runtime)
    trials = _with_trainings(spec, trials, backbone)
    with bench_files(output, *READ, field="output") as home:
        check_costs(home, trials, spec, backbone.digest())
        missing = list(unfinished(home, trials, spec, scorers))
        found = forecast(spec, missing, known_seconds(home, trials, spec.model))
    strata = strata_lines([source.name for source in sources])
    return [*notes, *forecast_lines(spec, trials, found, workers.count), *aligned(strata)]
