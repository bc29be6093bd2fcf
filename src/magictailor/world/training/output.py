"""The results of a training: the base as a diffusers folder, the raw weights, and an archive of both in small pieces."""

import copy
import io
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from magictailor.backbones import load_backbone
from magictailor.common.errors import InputError
from magictailor.common.files import write_json
from magictailor.common.tensors import read_tensors, write_tensors
from magictailor.weights import BASES
from magictailor.world.training.denoiser import Architecture

SHARD = 14_000_000  # bytes per file of weights
PIECE = 15 * 1024 * 1024  # bytes per piece of the archive
Weights = dict[str, Tensor]


def replace_folder(new: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_base(
    target: Path,
    architecture: Architecture,
    weights: Mapping[str, Weights],
    autoencoder: AutoencoderKL,
    record: Mapping[str, object],
) -> None:
    """Write the pipeline in half precision, the denoiser in shards, with its record."""
    networks = architecture.new_networks()
    for name, network in networks.items():
        network.load_state_dict(dict(network.state_dict()) | weights[name])  # buffers are made, not trained
        network.half()
    pipeline = architecture.assemble(networks, copy.deepcopy(autoencoder).cpu().half())
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    pipeline.save_pretrained(new, max_shard_size=f"{SHARD // 1_000_000}MB")
    write_json(new / "training.json", record)
    replace_folder(new, target)


def write_state(target: Path, networks: Mapping[str, Weights], step: int) -> None:
    """Write the raw weights of each network, bfloat16, in files of at most ``SHARD`` bytes, for a later training."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shard: Weights = {}
    size = number = 0
    for name, value in [(f"{n}.{k}", v) for n, weights in networks.items() for k, v in weights.items()]:
        tensor = value.to(torch.bfloat16)
        if shard and size + tensor.nbytes > SHARD:
            write_tensors(new / f"{number:02d}.safetensors", shard)
            shard, size, number = {}, 0, number + 1
        shard[name] = tensor
        size += tensor.nbytes
    write_tensors(new / f"{number:02d}.safetensors", shard)
    write_json(new / "state.json", {"step": step})
    replace_folder(new, target)


def _read_state(folder: Path) -> dict[str, Weights]:
    networks: dict[str, Weights] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, value in read_tensors(path).items():
            network, key = name.split(".", 1)
            networks.setdefault(network, {})[key] = value.float()
    return networks


def start_folder(start: str) -> Path:
    """The base to start from: a shipped one by its name, or that of a training's folder."""
    return BASES.get(start, Path(start).expanduser() / "base")


def starting_weights(start: str) -> dict[str, Weights]:
    """Weights to start from, by the network's folder: of an embedded base, or of a folder with base/, perhaps state/.

    Raises:
        InputError: the folder holds no base.
    """
    if start == "scratch":
        return {}
    base = start_folder(start)
    if not (base / "model_index.json").is_file():
        raise InputError(
            f"{start}: has no base/model_index.json", "give the folder of a training, or embedded", field="start"
        )
    backbone = load_backbone(start if start in BASES else str(base), device="cpu", precision="fp32")
    weights = {name: dict(network.state_dict()) for name, network in backbone.networks.items()}
    if start not in BASES and (base.parent / "state" / "00.safetensors").is_file():
        weights |= _read_state(base.parent / "state")
    return weights


def pack(folder: Path, names: Sequence[str], target: Path) -> None:
    """Archive those ``names`` that exist in ``folder``, in pieces under 16 MiB: ``cat base.tar.* | tar x``."""
    target.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            if (folder / name).exists():
                archive.add(folder / name, name)
    data = buffer.getbuffer()
    pieces = range(0, len(data), PIECE)
    for number, start in enumerate(pieces):
        (target / f"base.tar.{number:02d}").write_bytes(data[start : start + PIECE])
    for path in target.glob("base.tar.*"):
        if int(path.suffix[1:]) >= len(pieces):
            path.unlink()
