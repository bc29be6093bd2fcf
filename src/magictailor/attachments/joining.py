"""A pipeline of diffusers that has all attachments, made of the backbone's own networks."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from magictailor.attachments.contract import Attachment, Role
from magictailor.attachments.pipelines import pipeline_class
from magictailor.backbones import Backbone


def joint_class(backbone: Backbone, attachments: Sequence[Attachment]) -> Any:
    """The pipeline's class for all of them together.

    Raises:
        InputError: diffusers has none.
    """
    roles = frozenset[Role]().union(*(a.roles for a in attachments))
    return pipeline_class(type(backbone.pipeline).__name__, roles, backbone.family)


def combined(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several attachments give. Of one name they make a list, as pipelines take several ControlNets; a network that
    they share stays one."""
    found: dict[str, list[Any]] = {}
    for values in each:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 or _is_shared(values) else values for name, values in found.items()}


def _is_shared(values: Sequence[Any]) -> bool:
    return isinstance(values[0], nn.Module) and all(value is values[0] for value in values)


@contextmanager
def joined(backbone: Backbone, attachments: Sequence[Attachment]) -> Iterator[Any]:
    """Inside, a pipeline with all attachments; afterwards the backbone is as before, to the byte."""
    kind = joint_class(backbone, attachments)
    modules = combined([a.modules() for a in attachments])
    with ExitStack() as stack:
        vae = stack.enter_context(_own_precision(backbone))
        pipeline = _rebuilt(kind, backbone.pipeline, {"vae": vae, **modules})
        for attachment in attachments:
            stack.callback(attachment.detach, pipeline)
            attachment.attach(pipeline)
        yield pipeline


@contextmanager
def _own_precision(backbone: Backbone) -> Iterator[Any]:
    """The autoencoder, which pipelines must not cast: one that is kept in another precision than the rest is copied."""
    vae: Any = backbone.autoencoder
    if not vae.config.get("force_upcast"):
        yield vae
    elif vae.dtype != backbone.runtime.dtype:
        yield copy.deepcopy(vae)
    else:
        vae.register_to_config(force_upcast=False)
        try:
            yield vae
        finally:
            vae.register_to_config(force_upcast=True)


def _rebuilt(kind: Any, pipeline: Any, modules: dict[str, Any]) -> Any:
    """Not ``from_pipe``, which casts all networks to one precision; and with a scheduler of its own, which constructors
    may change."""
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    settings = {name: value for name, value in pipeline.config.items() if not name.startswith("_")}
    parts = {**settings, **pipeline.components, "scheduler": scheduler, **modules}
    names = inspect.signature(kind.__init__).parameters
    made = kind(**{name: parts[name] for name in names if name in parts})
    made.set_progress_bar_config(disable=True)
    return made
