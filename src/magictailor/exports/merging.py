"""Custom Diffusion's merge of single-concept runs into one, in closed form."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magictailor.backbones import Backbone, load_backbone
from magictailor.common.errors import InputError
from magictailor.common.files import new_folder, write_json
from magictailor.common.tensors import prefixed, read_tensors, unprefixed, write_tensors
from magictailor.generation.pictures import finished_run, loaded
from magictailor.recipe import CrossAttentionWeights
from magictailor.recipe.naming import TEMPLATES, Naming
from magictailor.training.checkpoint import RUN_FILE, WEIGHTS_FILE, WORDS_FILE, RunInfo, environment
from magictailor.training.trainables import DENOISER

RIDGE = 1e-6  # of the regularising features' mean square: their products must have an inverse
KEYS_AND_VALUES = {"to_k", "to_v"}


def merged_weight(base: Tensor, features: Sequence[Tensor], weights: Sequence[Tensor], regular: Tensor) -> Tensor:
    """The weight nearest to the base's on regular text that gives each run's own values on its own text.

    W = W0 + v' d,  d = C (Creg' Creg)^-1,  v' = (V - W0 C') (d C')^-1  (Kumari 2023, its closed form)

    Args:
        base: W0, [o, d].
        features: each run's own text features, [n, d], all together C.
        weights: each run's W, [o, d]; V holds W c for its own features.
        regular: Creg, features of other text, [m, d].

    Returns:
        W, [o, d], in double precision as all of this is computed.
    """
    w0, c, creg = base.double(), torch.cat(list(features)).double(), regular.double()
    values = torch.cat([w.double() @ f.double().T for f, w in zip(features, weights, strict=True)], 1)  # V
    products = creg.T @ creg
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    d = torch.linalg.solve(products, c.T).T
    v = torch.linalg.lstsq((d @ c.T).T, (values - w0 @ c.T).T).solution.T
    return w0 + v @ d


def _own_features(backbone: Backbone, info: RunInfo) -> Tensor:
    """Text features of the tokens that a run's pseudo-word and label make, in its training prompt."""
    naming = Naming(info.recipe, info.words)
    word = naming.concept
    (prompt,) = naming.prompts(word)[:1]
    condition = backbone.encode_text([prompt], [word])
    (place, *_) = next(iter(condition.positions[0][word].values()))
    pipeline: Any = backbone.pipeline
    length = len(pipeline.tokenizer(naming.called(word), add_special_tokens=False).input_ids)
    return condition.sequence[0, place : place + length].detach().cpu()


def _regular_features(backbone: Backbone, labels: Sequence[str]) -> Tensor:
    """Of all places of the templates with the labels in them."""
    prompts = [template.format(label) for label in labels for template in TEMPLATES]
    return backbone.encode_text(prompts).sequence.detach().flatten(0, 1).cpu()


def _mergeable(run: Path | str) -> tuple[Path, RunInfo]:
    folder, info = finished_run(run)
    layers = {layer for part in info.recipe.train if isinstance(part, CrossAttentionWeights) for layer in part.layers}
    if layers != KEYS_AND_VALUES or info.recipe.kinds != {"cross-attention", "pseudo-words"}:
        raise InputError(
            f"{folder}: only runs of --method custom-diffusion are merged, this one is {info.recipe.method}"
        )
    if len(info.words) > 1:
        raise InputError(
            f"{folder}: holds {len(info.words)} samples; merge runs of one each, trained on folders of one sample"
        )
    return folder, info


def _together(folders: Sequence[Path], infos: Sequence[RunInfo]) -> RunInfo:
    """What the merged run says of itself."""
    words = [word for info in infos for word in info.words]
    if len(set(words)) < len(words):
        raise InputError(f"{words[0]}: both runs have this pseudo-word; train one with another (pair.toml: word = ...)")
    for folder, info in zip(folders, infos, strict=True):
        if (info.model, info.loras) != (infos[0].model, infos[0].loras):
            raise InputError(f"{folder}: trained on {info.model}, not on {infos[0].model}; merge runs of one base")
    samples = [sample for info in infos for sample in info.pair["samples"]]
    return replace(infos[0], pair={"name": " and ".join(info.pair["name"] for info in infos), "samples": samples})


@torch.no_grad()
def merge_runs(runs: Sequence[Path | str], output: Path | str) -> Path:
    """Merge single-concept runs of Custom Diffusion into one that `load` and `generate` take.

    Raises:
        InputError: runs of another method, of several samples, of different bases or with the same word; nothing has
            been written.
    """
    if len(runs) < 2:
        raise InputError("name at least two runs to merge")
    folders, infos = zip(*map(_mergeable, runs), strict=True)
    merged = _together(folders, infos)
    features, tuned, words = [], [], dict[str, Tensor]()
    for folder, info in zip(folders, infos, strict=True):
        backbone = loaded(folder, (), {"device": "cpu", "precision": "fp32"})
        features.append(_own_features(backbone, info))
        tuned.append(unprefixed(DENOISER, read_tensors(folder / WEIGHTS_FILE)))
        words |= read_tensors(folder / WORDS_FILE)
    base = load_backbone(merged.model, list(merged.loras), device="cpu", precision="fp32")
    regular = _regular_features(base, list(merged.words.values()))
    own = dict(base.denoiser.named_parameters())
    weights = {name: merged_weight(own[name], features, [t[name] for t in tuned], regular).float() for name in tuned[0]}
    with new_folder(output) as work:
        write_tensors(work / WEIGHTS_FILE, prefixed(DENOISER, weights))
        write_tensors(work / WORDS_FILE, words)
        more = {**environment(), "preset": merged.preset, "seconds": 0.0, "finished": True}
        write_json(work / RUN_FILE, {**merged.identity(), **more, "merged": [str(f.resolve()) for f in folders]})
    return Path(output)
