"""What a bench is made to show, named before it is seen: its primary endpoint and contrasts, in `design.json`."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict

from magictailor.common.errors import InputError
from magictailor.common.records import read_record
from magictailor.evaluate.metrics.scorer import Scorer
from magictailor.evaluate.spec import Endpoint, Spec
from magictailor.evaluate.stores import Store
from magictailor.recipe import ConfigModel

FILE = "design.json"


class Named(Endpoint):
    """``named``: the day. ``beforehand``: there was no score in the folder yet."""

    named: str
    beforehand: bool


class Design(ConfigModel):
    """``pairs``: how many were planned when the primary endpoint was named."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    primary: Named | None = None
    contrasts: tuple[Named, ...] = ()
    pairs: int | None = None


def check_metrics(spec: Spec, scorers: Mapping[str, Scorer]) -> None:
    """Raises InputError if an endpoint's metric is of none of the bench's scorers: it could not be changed later."""
    known = [metric for scorer in scorers.values() for metric in scorer.higher_is_better]
    for endpoint in (*filter(None, [spec.primary]), *spec.contrasts):
        if endpoint.metric not in known:
            key = "primary" if endpoint is spec.primary else "contrasts"
            problem = f"{key}: {endpoint.metric!r} is not a metric of this bench"
            raise InputError(problem, f"choose from {', '.join(known)}, or add its scorer to metrics")


def read_design(home: Path) -> Design | None:
    """None if none was named. Raises InputError for a damaged file."""
    path = home / FILE
    return read_record(Design, path, "put it back from a copy") if path.exists() else None


def fix_design(spec: Spec, store: Store, home: Path, pairs: int) -> None:
    """Write the spec's endpoints into the bench, if they are not there yet. ``home``: the bench's files.

    Raises:
        InputError: the bench has another primary endpoint.
    """
    known = read_design(home) or Design()
    if known.primary is not None and spec.primary is not None and not known.primary.same(spec.primary):
        problem = f"its primary endpoint was named on {known.primary.named}: {known.primary}, not {spec.primary}"
        raise InputError(problem, "keep it, or choose another folder", field="output")
    beforehand = not any((home / "results").rglob("*.parquet"))

    def named(endpoint: Endpoint) -> Named:
        return Named(**endpoint.model_dump(), named=time.strftime("%Y-%m-%d"), beforehand=beforehand)

    new = [c for c in spec.contrasts if not any(old.same(c) for old in known.contrasts)]
    primary = known.primary or (named(spec.primary) if spec.primary else None)
    design = Design(
        primary=primary,
        contrasts=(*known.contrasts, *map(named, new)),
        pairs=known.pairs if known.primary else pairs if primary else None,
    )
    if design != known:
        store.write(FILE, json.dumps(json.loads(design.model_dump_json()), indent=1))
