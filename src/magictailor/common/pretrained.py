"""Pretrained models' folders: checked before a library opens them, and never unpickled."""

from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.common.records import read_json

AGAIN = "download it again"
LARGE = 2**20  # bytes of JSON; tokenizers' vocabularies are left to their library
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")


def check_part(folder: Path, *, field: str = "") -> None:
    """Refuse a folder of one network, tokenizer or scheduler with a damaged, missing or pickled file.

    Raises:
        InputError: it names the file.
    """
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size < LARGE:
            read_json(file, AGAIN, field=field, finite=False)
    weights = sorted(folder.glob("*.safetensors"))
    for file in weights:
        read_header(file, AGAIN, field=field)
    for index in folder.glob("*.safetensors.index.json"):
        tree = read_json(index, AGAIN, field=field, finite=False)
        named = tree.get("weight_map") if isinstance(tree, dict) else None
        files = set(named.values()) if isinstance(named, dict) else set()
        if missing := sorted(map(str, files - {file.name for file in weights})):
            raise InputError(f"{folder}: {missing[0]} is missing", AGAIN, field=field)
    if (folder / "config.json").is_file() and not weights:
        if any(file.suffix in (".bin", ".pt", ".pth", ".ckpt") for file in folder.iterdir()):
            raise InputError(
                f"{folder}: its weights are pickles, which can run code",
                "use a version with .safetensors, or convert it elsewhere: load it and call "
                "save_pretrained(FOLDER, safe_serialization=True)",
                field=field,
            )
        raise InputError(f"{folder}: has no weights (.safetensors)", AGAIN, field=field)


def load_pretrained(model_class: Any, source: str, fix: str, *, local: bool = False) -> Any:
    """``model_class.from_pretrained(source)``, from safetensors alone.

    Args:
        source: a folder or a hub id.
        fix: what to do if it cannot be had.
        local: never ask the network.

    Raises:
        InputError: damaged, another model's, or not there.
    """
    folder = Path(source).expanduser()
    is_folder = folder.is_dir()
    if is_folder:
        check_part(folder)
        if "Tokenizer" in model_class.__name__ and not any((folder / name).is_file() for name in VOCABULARIES):
            raise InputError(f"{source}: has no tokenizer", fix)  # transformers would make one without any words
    what = f"holds no {model_class.__name__}" if is_folder else "not on this machine" if local else "not to be had"
    has_weights = hasattr(model_class, "load_state_dict")
    safe = {"use_safetensors": True, "output_loading_info": True} if has_weights else {}
    try:
        loaded = model_class.from_pretrained(str(folder) if is_folder else source, local_files_only=local, **safe)
    except Exception as error:  # no network, no such id, another model's files: the libraries raise nearly anything
        raise InputError(f"{source}: {what}", fix) from error
    if not has_weights:
        return loaded
    model, info = loaded
    if len(info["missing_keys"]) > len(model.state_dict()) / 2:  # transformers would leave them random
        raise InputError(f"{source}: {what}", fix)
    return model
