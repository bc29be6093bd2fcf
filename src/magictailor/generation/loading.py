"""A finished run as a backbone with its LoRA, pseudo-words and trained weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from magictailor.backbones import Backbone, load_backbone
from magictailor.backbones.community_lora import community_lora
from magictailor.backbones.runtime import BITS
from magictailor.common.errors import InputError
from magictailor.common.events import Listener, Notice, ignore
from magictailor.common.tensors import read_tensors, unprefixed
from magictailor.common.text import reason
from magictailor.recipe.naming import WORD_KINDS, Naming
from magictailor.training.result import check_base, check_lora, check_words
from magictailor.training.run_folder import (
    FORMAT,
    LORA_FILE,
    WEIGHTS_FILE,
    WORDS_FILE,
    RunInfo,
    finished_run,
    format_of,
)
from magictailor.training.trainables import DENOISER, MATRIX, OWN_WEIGHTS, TEXT, WORDS


def load_trained(
    run: Path | str, loras: Sequence[str] = (), *, listen: Listener = ignore, **options: Any
) -> tuple[Backbone, RunInfo]:
    """A finished run's backbone.

    Args:
        loras: community LoRAs to generate with, ``FILE`` or ``FILE=STRENGTH``, next to those of the training.
        options: see `RuntimeOptions`; the run's precision, unless given.

    Raises:
        InputError: no run there, or not finished; its base has changed; no such device; a LoRA that does not fit.
    """
    folder, info = finished_run(run)
    if (found := format_of(folder)) < FORMAT:
        listen(Notice(f"{folder}: made by an earlier version (format {found}); its recipe is read as format {FORMAT}"))
    _refuse_lost_changes(folder, info, loras, options)
    options["precision"] = options.get("precision") or info.precision
    backbone = load_backbone(info.model, [*info.loras, *map(community_lora, loras)], listen, **options)
    check_base(backbone, info, folder)
    _apply(backbone, info, folder)
    return backbone, info


def _refuse_lost_changes(folder: Path, info: RunInfo, loras: Sequence[str], options: Mapping[str, Any]) -> None:
    """A run's own weights replace the base's, and with them all that was merged into or packed in those."""
    if not info.recipe.kinds & OWN_WEIGHTS:
        return
    if loras:
        raise InputError(
            f"{folder} has its own weights where a LoRA would change the base's",
            "give the LoRA to the training instead",
            field="loras",
        )
    if options.get("precision") in BITS:
        raise InputError(
            f"{options.get('precision')}: {folder} has its own weights", "choose bf16 or fp32", field="precision"
        )


def _apply(backbone: Backbone, info: RunInfo, folder: Path) -> None:
    kinds, pipeline = info.recipe.kinds, backbone.pipeline
    if info.recipe.data.size is not None:
        backbone.use_size(info.recipe.data.size)
    backbone.add_words(info.words if kinds & WORD_KINDS else Naming(info.recipe, info.words).initial_texts())
    tensors = read_tensors(folder / WORDS_FILE) if kinds & WORD_KINDS else {}
    rows, matrices = unprefixed(WORDS, tensors), unprefixed(MATRIX, tensors)
    if rows or matrices:
        check_words(backbone, info, folder, rows, matrices)
    for name, matrix in matrices.items():
        table: Any = backbone.text_encoders[name].get_input_embeddings()  # type: ignore[operator]
        table.weight.data.copy_(matrix)
    if rows:
        backbone.set_words({w: {e: rows[f"{w}.{e}"] for e in backbone.text_encoders} for w in info.words})
    if kinds & OWN_WEIGHTS:
        _put_weights(backbone, read_tensors(folder / WEIGHTS_FILE))
    if "lora" in kinds:
        check_lora(backbone, folder / LORA_FILE)
        try:
            pipeline.load_lora_weights(str(folder), weight_name=LORA_FILE, local_files_only=True)
        except Exception as error:  # of a changed header the libraries raise nearly anything
            raise InputError(f"{folder / LORA_FILE}: damaged ({reason(error)})", "train into a new folder") from error
    if backbone.runtime.compiled:
        backbone.compile()


def _put_weights(backbone: Backbone, tensors: Mapping[str, Tensor]) -> None:
    """The base's own weights that a run trained."""
    networks = {DENOISER: backbone.denoiser, **{f"{TEXT}.{n}": e for n, e in backbone.text_encoders.items()}}
    for prefix, network in networks.items():
        own = unprefixed(prefix, tensors)
        try:
            unknown = network.load_state_dict(own, strict=False).unexpected_keys
        except RuntimeError as error:
            raise InputError(f"its own weights do not fit the base ({error})", "train into a new folder") from error
        if unknown:
            raise InputError(f"{unknown[0]}: in no layer of the base", "train into a new folder")
