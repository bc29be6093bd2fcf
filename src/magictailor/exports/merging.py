"""Custom Diffusion's closed-form merge of single-concept runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from magictailor.backbones import Backbone, load_backbone
from magictailor.common.errors import InputError
from magictailor.common.files import new_folder
from magictailor.common.tensors import prefixed, read_tensors, unprefixed, write_tensors
from magictailor.generation.loading import load_trained
from magictailor.methods.prompt_words import TEMPLATES
from magictailor.recipe import CrossAttentionWeights
from magictailor.recipe.naming import Naming
from magictailor.training.run_folder import (
    WEIGHTS_FILE,
    WORDS_FILE,
    RunInfo,
    finished_run,
    update_run,
    write_run,
)
from magictailor.training.trainables import DENOISER

RIDGE = 1e-6  # times the regularization features' mean square; makes their Gram matrix invertible
KEYS_AND_VALUES = {"to_k", "to_v"}


def merged_weight(base: Tensor, features: Sequence[Tensor], weights: Sequence[Tensor], regular: Tensor) -> Tensor:
    """The weight that reproduces each run's outputs on its own text and changes least on regularization text.

    W = W0 + v' d,  d = C (Creg' Creg)^-1,  v' = (V - W0 C') (d C')^-1  (Kumari et al. 2023)

    Args:
        base: W0, [o, d].
        features: each run's own text features, [n, d]; stacked they are C.
        weights: each run's W, [o, d]; V holds W c for its own features c.
        regular: Creg, features of other text, [m, d].

    Returns:
        W, [o, d], in double precision.
    """
    w0, c, creg = base.double(), torch.cat(list(features)).double(), regular.double()
    values = torch.cat([w.double() @ f.double().T for f, w in zip(features, weights, strict=True)], 1)  # V
    products = creg.T @ creg
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    d = torch.linalg.solve(products, c.T).T
    v = torch.linalg.lstsq((d @ c.T).T, (values - w0 @ c.T).T).solution.T
    return w0 + v @ d


def _own_features(backbone: Backbone, info: RunInfo) -> Tensor:
    """Text features of the run's pseudo-word and label in its training prompt, [n, d]."""
    naming = Naming(info.recipe, info.words)
    word = naming.concept
    (prompt,) = naming.training_prompts(word)[:1]
    condition = backbone.encode_text([prompt], [word])
    start, tokenizer = condition.spans[0][word][0], next(iter(backbone.tokenizers.values()))
    length = len(tokenizer(naming.name(word), add_special_tokens=False).input_ids)
    return condition.tensors["sequence"][0, start : start + length].detach().cpu()


def _regular_features(backbone: Backbone, labels: Sequence[str]) -> Tensor:
    """Text features at all positions of the templates with these labels, [m, d]."""
    prompts = [template.format(label) for label in labels for template in TEMPLATES]
    return backbone.encode_text(prompts).tensors["sequence"].detach().flatten(0, 1).cpu()


def _mergeable(run: Path | str) -> tuple[Path, RunInfo]:
    folder, info = finished_run(run)
    layers = {layer for part in info.recipe.train if isinstance(part, CrossAttentionWeights) for layer in part.layers}
    if layers != KEYS_AND_VALUES or info.recipe.kinds != {"cross-attention", "pseudo-words"}:
        raise InputError(
            f"{folder}: method {info.recipe.method} cannot be merged",
            "name only runs of method custom-diffusion",
            field="runs",
        )
    if len(info.words) > 1:
        raise InputError(
            f"{folder}: trained on {len(info.words)} samples",
            "merge runs that were trained on one sample each",
            field="runs",
        )
    return folder, info


def _merged_info(folders: Sequence[Path], infos: Sequence[RunInfo]) -> RunInfo:
    """The merged run's record. Raises InputError if the runs do not fit together."""
    words = [word for info in infos for word in info.words]
    if repeated := [word for word in words if words.count(word) > 1]:
        problem = f"{repeated[0]}: two runs have this pseudo-word"
        raise InputError(problem, "train one with another (pair.toml: word = ...)", field="runs")
    for folder, info in zip(folders, infos, strict=True):
        if (info.model, info.loras) != (infos[0].model, infos[0].loras):
            problem = f"{folder}: trained on {info.model}, not on {infos[0].model}"
            raise InputError(problem, "merge runs of one base", field="runs")
    samples = [sample for info in infos for sample in info.pair["samples"]]
    return replace(infos[0], pair={"name": " and ".join(info.pair["name"] for info in infos), "samples": samples})


@torch.no_grad()
def merge_runs(runs: Sequence[Path | str], output: Path | str) -> Path:
    """Merge single-concept runs of Custom Diffusion into one run, for `load` and `generate`.

    Raises:
        InputError: runs of another method, of several samples, of different bases or with the same word; nothing has
            been written.
    """
    if len(runs) < 2:
        raise InputError("fewer than two", "name at least two runs to merge", field="runs")
    folders, infos = zip(*map(_mergeable, runs), strict=True)
    merged = _merged_info(folders, infos)
    features, tuned, words = [], [], dict[str, Tensor]()
    for folder, info in zip(folders, infos, strict=True):
        backbone, _ = load_trained(folder, device="cpu", precision="fp32")
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
        write_run(work, merged, finished=True)
        update_run(work, merged=[str(folder.resolve()) for folder in folders])
    return Path(output)
