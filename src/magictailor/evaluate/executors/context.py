"""What a worker has to know to run units, and how it turns a unit into an outcome."""

import time
from dataclasses import dataclass, field
from typing import Any

from magictailor.backbones import RuntimeOptions
from magictailor.common.errors import InputError, RunError
from magictailor.common.events import Listener, ignore
from magictailor.evaluate.scheduling import Outcome
from magictailor.evaluate.spec import Spec
from magictailor.evaluate.stores import Store
from magictailor.evaluate.trials import Unit
from magictailor.evaluate.work import run_unit


@dataclass(frozen=True)
class Context:
    """``threads``: of the CPU for each unit; None: all of the machine."""

    spec: Spec
    store: Store
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    threads: int | None = None


def attempt(unit: Unit, context: Context, listen: Listener = ignore) -> Outcome:
    """Run the unit; whatever goes wrong is its outcome, so that the others go on."""
    began = time.monotonic()

    def outcome(**more: Any) -> Outcome:
        return Outcome(unit, time.monotonic() - began, **more)

    try:
        run_unit(unit, context.spec, context.store, context.runtime, context.threads, listen)
    except (InputError, RunError) as error:
        return outcome(error=str(error).replace("\n", " "))
    except Exception as error:  # a defect of ours or of a library: reported, and no reason to lose the night
        return outcome(error=f"{type(error).__name__}: {error}".replace("\n", " "))
    return outcome()
