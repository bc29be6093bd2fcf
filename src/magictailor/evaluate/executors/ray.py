"""Units on a Ray cluster: Ray places them by their resources and says which workers were lost."""

import time
from collections.abc import Sequence
from typing import Any

import magictailor
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Notice
from magictailor.evaluate.executors.context import Context, attempt
from magictailor.evaluate.records import parquet
from magictailor.evaluate.resources import Resources
from magictailor.evaluate.scheduling import Outcome
from magictailor.evaluate.stores import Store
from magictailor.evaluate.trials import Unit

PATIENCE, NEWCOMERS = 1.0, 10.0  # seconds: that `wait` waits at most, and between looks for new nodes
PROBE_SECONDS = 600  # it imports the package, and a busy machine takes long
TOKEN = "token"  # a file in the bench, by which a node shows that it sees the same files


def _library() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("needs Ray", "run `pip install 'magictailor[ray]'`", field="ray") from error
    return ray


def _probe(store: Store, token: str, version: str) -> str | None:
    """Runs on a node: why it cannot take units; None: it can."""
    if magictailor.__version__ != version:
        return f"has magictailor {magictailor.__version__}, not {version}"
    try:
        parquet()
        with store.mirror(TOKEN) as home:
            seen = (home / TOKEN).read_text("utf-8") if (home / TOKEN).exists() else None
    except Exception as error:
        return str(error)
    return None if seen == token else f"does not see the same files in {store.location}"


def _attempt(unit: Unit, context: Context) -> Outcome:
    return attempt(unit, context)


class RayCluster:
    """Nodes that cannot take units are named and left out; nodes that join later are used.

    ``address``: HOST:PORT; "auto": of this machine; "local": a new one on this machine only.
    """

    def __init__(self, context: Context, address: str, resources: Resources, token: str, listen: Listener) -> None:
        self._ray, self._resources, self._listen = _library(), resources, listen
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{address}: no Ray cluster ({error})", "start one with `ray start --head`", field="ray"
            ) from error
        self._store, self._token = context.store, token
        self._context = self._ray.put(context)
        self._function = self._ray.remote(_attempt)
        self._nodes: dict[str, int] = {}  # fit nodes: the units that fit on each
        self._unfit: dict[str, str] = {}
        self._looked = 0.0
        self._at_work: dict[Any, Unit] = {}
        self._placed: dict[Any, frozenset[str]] = {}  # the nodes that a unit at work may run on
        self._look()
        if not self.capacity:
            self.close()
            reasons = "; ".join(self._unfit.values()) or f"none has {resources}, which a unit takes"
            raise InputError(f"{address}: no node can take a unit ({reasons})", "repair or add a node", field="ray")

    @property
    def capacity(self) -> int:
        return sum(self._nodes.values())

    def _look(self) -> None:
        """Take in new nodes and forget those that died."""
        self._looked = time.monotonic()
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        self._nodes = {id: count for id, count in self._nodes.items() if id in alive}
        new = [id for id in alive if id not in self._nodes and id not in self._unfit]
        asked = {id: self._ask(id) for id in new}
        for id, answer in asked.items():
            name = f"node {alive[id]['NodeManagerAddress']} ({id[:8]})"
            try:
                problem = self._ray.get(answer, timeout=PROBE_SECONDS)
            except Exception as error:  # the package is missing there, or the node died
                problem = str(error).strip().splitlines()[-1]
            if problem is None:
                self._nodes[id] = self._resources.fitting(alive[id]["Resources"])
            else:
                self._unfit[id] = f"{name} {problem}"
                self._listen(Notice(f"{name} is left out: {problem}", warning=True))

    def _ask(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        probe = self._ray.remote(_probe).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        return probe.remote(self._store, self._token, magictailor.__version__)

    def submit(self, unit: Unit) -> None:
        resources = self._resources
        fit = ",".join(self._nodes)
        function = self._function.options(
            name=unit.key,
            num_cpus=resources.cores,
            num_gpus=resources.card,
            memory=resources.memory or None,
            max_retries=0,  # the scheduler hands a lost unit out again
            label_selector={"ray.io/node-id": f"in({fit})"},
        )
        reference = function.remote(unit, self._context)
        self._at_work[reference], self._placed[reference] = unit, frozenset(self._nodes)

    def wait(self) -> Sequence[Outcome]:
        if time.monotonic() - self._looked > NEWCOMERS:
            self._look()
            if stranded := [r for r, nodes in self._placed.items() if not nodes & self._nodes.keys()]:
                return [self._stranded(reference) for reference in stranded]
        if not self._at_work:  # no node is left: another may join
            time.sleep(PATIENCE)
            return []
        ready, _ = self._ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(self._at_work), num_returns=1, timeout=PATIENCE)
        return [self._outcome(reference) for reference in ready]

    def _stranded(self, reference: Any) -> Outcome:
        """Of a unit all whose nodes died: if it still waits for one of them, no other one would ever take it."""
        self._ray.cancel(reference, force=True)
        del self._placed[reference]
        return Outcome(self._at_work.pop(reference), lost=True)

    def _outcome(self, reference: Any) -> Outcome:
        del self._placed[reference]
        unit, errors = self._at_work.pop(reference), self._ray.exceptions
        try:
            found: Outcome = self._ray.get(reference)
            return found
        except errors.RayTaskError as error:  # outside of `attempt`: the unit did not even arrive
            return Outcome(unit, error=str(error).strip().splitlines()[-1])
        except errors.RayError:
            return Outcome(unit, lost=True)

    def close(self) -> None:
        self._ray.shutdown()
