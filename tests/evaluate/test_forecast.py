"""What a bench is expected to take, and the ready specs."""

from pathlib import Path

import pytest

from magictailor.evaluate.costs import Cost, Timed, write_cost
from magictailor.evaluate.forecast import UnitSeconds, forecast, known_seconds
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec, read_spec
from magictailor.evaluate.trials import make_trials

READY = sorted((Path(__file__).parent.parent.parent / "benchmarks").glob("*.toml"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_specs_are_valid(path: Path) -> None:
    spec = read_spec(path)
    assert list(make_trials(spec, sources(spec, path.parent)))


def test_the_comparison_has_four_pairs_of_each_difficulty_and_names_its_endpoint() -> None:
    (path,) = [path for path in READY if path.stem == "paper"]
    spec = read_spec(path)
    found = [source.world for source in sources(spec, path.parent)]
    challenges = [pair.challenge for pair in found if pair is not None]
    assert {challenge: challenges.count(challenge) for challenge in challenges} == dict.fromkeys(
        ("plain", "polluting", "unequal", "novel", "size", "category"), 4
    )
    assert len({(pair.concept.category, pair.kind) for pair in found if pair is not None}) >= 15
    assert str(spec.primary) == "identity of magictailor against clic"


def test_all_pairs_have_one_training_before_any_has_a_second() -> None:
    spec = Spec(
        pairs=("world:6+3",), methods=("magictailor", "clic"), training_seeds=2, repeated_pairs=2, anchors=False
    )
    trials = list(make_trials(spec, sources(spec, Path())))
    assert [trial.training_seed for trial in trials] == [0] * 6 + [1] * 4
    repeated = [trial.source.name for trial in trials if trial.training_seed]
    assert repeated == ["world-6", "world-6", "world-7", "world-7"]


def test_a_forecast_adds_up_what_is_missing() -> None:
    """Two pairs; a training of 100 s on one core, images of 2 s, scores of 1 s; three rendered anchors have no noise."""
    spec = Spec(pairs=("world:6+2",), prompts=("a photo of {concept} with {component}",), seeds=3)
    trials = list(make_trials(spec, sources(spec, Path())))
    found = forecast(spec, trials, UnitSeconds({"magictailor": 100.0}, 2.0, 1.0, "here"))
    assert (found.trials, found.images) == (2 * 5, 2 * (3 + 3 + 3 * 1))
    assert found.seconds == {"train": 200, "generate": 2 * (3 + 3) * 2, "score": 2 * 9}
    assert found.total == 242
    assert forecast(spec, trials, UnitSeconds()).total is None
    assert forecast(spec, [], UnitSeconds()).total == 0


def test_what_this_bench_took_counts_before_what_was_measured_elsewhere(tmp_path: Path) -> None:
    spec = Spec(pairs=("world:6+2",), methods=("magictailor", "clic"))
    trials = list(make_trials(spec, sources(spec, tmp_path)))
    for trial in trials:
        if trial.method == "clic":
            timed = Timed(images=10, seconds=30.0)
            write_cost(tmp_path / trial.cost, Cost(steps=300, seconds=40.0, generated=timed, scored=timed))
    own = known_seconds(tmp_path, trials, "a model of ours")
    assert (dict(own.train), own.image, own.score) == ({"clic": 40.0}, 3.0, 3.0)
    both = known_seconds(tmp_path, trials, "embedded")
    assert both.training("clic") == 40
    assert both.training("magictailor") not in (None, 40.0)
    assert both.training("truth") == 0
