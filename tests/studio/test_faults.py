"""Queued trainings while job, server and both are killed. With twenty, at random: benchmarks/studio_faults.py."""

from collections.abc import Iterator

import pytest

from studio_site import Site, disturb, queue, results, wait


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("faults"))
    site.start("--demo")
    yield site
    site.close()


@pytest.mark.slow
def test_no_training_is_lost_or_stuck_and_results_are_the_same(site: Site) -> None:
    """Two with one seed: the first is killed with its server, and then alone; the second is undisturbed."""
    ids = queue(site, site.ask("/pairs")[0]["id"], 2, 1)

    def trained(number: int, steps: int) -> None:
        metrics = next((site.root / "jobs" / list(ids)[number] / "run").glob("*")) / "metrics.jsonl"
        wait(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= steps, 240, "a training's steps")

    moments = iter([(0, 2), (0, 5)])

    def pause() -> float:
        trained(*next(moments))
        return 0.0

    disturb(site, list(ids), ["both", "job"], pause)
    first, second = (results(site.root, id) for id in ids)
    assert first == second
    assert [site.ask(f"/jobs/{id}")["attempt"] for id in ids] == [3, 1]
