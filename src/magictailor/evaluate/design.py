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


class Design(ConfigModel):
    """``named``: the day. ``beforehand``: there was no score in the folder yet."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    primary: Endpoint | None = None
    contrasts: tuple[Endpoint, ...] = ()
    named: str = ""
    beforehand: bool = True


def check_metrics(spec: Spec, scorers: Mapping[str, Scorer]) -> None:
    """Raises InputError if an endpoint's metric is of none of the bench's scorers: it could not be changed later."""
    known = [metric for scorer in scorers.values() for metric in scorer.higher_is_better]
    for endpoint in (*filter(None, [spec.primary]), *spec.contrasts):
        if endpoint.metric not in known:
            key = "primary" if endpoint is spec.primary else "contrasts"
            problem = f"{key}: {endpoint.metric!r} is no metric of this bench"
            raise InputError(problem, f"choose from {', '.join(known)}, or add its scorer to metrics")


def read_design(home: Path) -> Design | None:
    """None if none was named. Raises InputError for a damaged file."""
    path = home / FILE
    return read_record(Design, path, "put it back from a copy") if path.exists() else None


def fix_design(spec: Spec, store: Store, home: Path) -> None:
    """Write the spec's endpoints into the bench, if none is there. ``home``: the bench's files.

    Raises:
        InputError: the bench has another primary endpoint.
    """
    known = read_design(home)
    named = known.primary if known else None
    if known is not None and named is not None and named != spec.primary:
        problem = f"its primary endpoint was named on {known.named}: {named}, not {spec.primary or 'none'}"
        raise InputError(problem, "keep it, or choose another folder", field="output")
    contrasts = tuple(dict.fromkeys([*(known.contrasts if known else ()), *spec.contrasts]))
    if (named, known.contrasts if known else ()) == (spec.primary, contrasts):
        return
    scored = any((home / "results").rglob("*.parquet"))
    design = Design(
        primary=spec.primary,
        contrasts=contrasts,
        named=known.named if known and named else time.strftime("%Y-%m-%d"),
        beforehand=known.beforehand if known and named else not scored,
    )
    store.write(FILE, json.dumps(json.loads(design.model_dump_json()), indent=1))
