"""Pretrained models' folders: checked before a library opens them, and never unpickled."""

from pathlib import Path
from typing import Any

from magictailor.common.errors import InputError
from magictailor.common.headers import read_header
from magictailor.common.hub import hub_answers
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


def load_pretrained(
    model_class: Any, source: str, fix: str, *, local: bool = False, field: str = "", **options: Any
) -> Any:
    """``model_class.from_pretrained(source)``, from safetensors only: a network, pipeline, tokenizer or processor.

    Args:
        source: a folder, a hub id, or a network's .safetensors file.
        fix: what to do if it cannot be had.
        local: never ask the network.
        field: the caller's name of the argument, for the error.
        options: for the library, as they are: ``torch_dtype``, ``subfolder``.

    Raises:
        InputError: damaged, another model's, or not there.
    """
    path, name = Path(source).expanduser(), model_class.__name__
    if path.is_file():
        read_header(path, fix, field=field)
    elif path.is_dir():
        check_part(path, field=field)
        if "Tokenizer" in name and not any((path / file).is_file() for file in VOCABULARIES):
            raise InputError(
                f"{source}: has no tokenizer", fix, field=field
            )  # transformers would make one without words
    missing = "not on this machine" if local else "cannot be found or downloaded"
    problem = f"{source}: {f'holds no {name}' if path.exists() else missing}"
    if hasattr(model_class, "load_state_dict") or hasattr(model_class, "from_pipe"):  # what has weights
        options |= {"use_safetensors": True}
    names_missing = "use_safetensors" in options and not hasattr(model_class, "from_pipe")
    try:
        if path.is_file():
            return model_class.from_single_file(str(path), **options)
        if names_missing:
            options |= {"output_loading_info": True}
        where = str(path) if path.is_dir() else source
        local = local or path.is_dir() or not hub_answers()
        loaded = model_class.from_pretrained(where, local_files_only=local, **options)
    except Exception as error:  # no network, no such id, another model's files: the libraries raise nearly anything
        raise InputError(problem, fix, field=field) from error
    if not names_missing:
        return loaded
    model, info = loaded
    if len(info["missing_keys"]) > len(model.state_dict()) / 2:  # the library would leave them random
        raise InputError(problem, fix, field=field)
    return model
