"""The README of an export: its use in each tool, with the exact prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from magictailor.weights import AUTOENCODER

DIFFUSERS = """
```python
{imports}

pipe = {opened}
{loading}
image = pipe(prompt={prompt!r}, {call}).images[0]
```
"""
PREDICTS_V = 'pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction")'
# Old configurations of SDXL name a wrong end-of-text token; a pseudo-word would be pooled instead.
LEGACY_END = "pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id  # or new words are misread"
TWO_ENCODERS = """word = load_file("{file}")
pipe.load_textual_inversion(
    word["clip_l"], token="{word}", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
)
pipe.load_textual_inversion(
    word["clip_g"], token="{word}", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
)"""
# Stable Diffusion 3's pipeline cannot load textual inversions, and pools both encoders.
ROWS = """encoders = {{"clip_l": (pipe.text_encoder, pipe.tokenizer), "clip_g": (pipe.text_encoder_2, pipe.tokenizer_2)}}
for word, file in {words!r}.items():
    for key, vector in load_file(file).items():
        encoder, tokenizer = encoders[key]
        encoder.text_model.eos_token_id = tokenizer.eos_token_id  # or new words are misread
        tokenizer.add_tokens(word)
        table = encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False).weight.data
        table[tokenizer.convert_tokens_to_ids(word)] = vector[0].to(table.dtype)"""
A1111 = """
{tools}: {lora}{words}prompt:

    {prompt}
"""
COMFYUI = """
ComfyUI: {lora}{words}prompt:

    {prompt}
"""
CHECKPOINT = """
A1111 and Forge: `{file}` goes into `models/Stable-diffusion`, the embeddings ({words}) into `embeddings`; prompt:

    {a1111}

ComfyUI: `{file}` goes into `models/checkpoints`, the embeddings into `models/embeddings`; prompt:

    {comfyui}
"""
PREDICTS_V_FILE = """
The model predicts v. `{name}.yaml` tells A1111 and ComfyUI so: it goes next to `{name}.safetensors`. Forge: choose it in
the settings.
"""
BUNDLED = """
The LoRA holds the embeddings as well: A1111 needs no other file. All other tools need one for each word; diffusers and
sd-scripts refuse the LoRA with embeddings in it, and Forge does from 13 tensors of them on.
"""


def with_words(prompt: str, names: Mapping[str, str]) -> str:
    """The prompt with each pseudo-word replaced by the name given."""
    for word, name in names.items():
        prompt = prompt.replace(word, name)
    return prompt


def comfyui_prompt(prompt: str, names: Mapping[str, str]) -> str:
    return with_words(prompt, {word: f"embedding:{name}" for word, name in names.items()})


def in_diffusers(
    pipeline: str,
    base: str,
    lora: str | None,
    words: Mapping[str, str],
    prompt: str,
    call: Mapping[str, object],
    v: bool = False,
    absent: Sequence[str] = (),
    shipped: bool = False,
) -> str:
    """Python code for diffusers.

    Args:
        pipeline: the class.
        base: a folder, a file or a hub id.
        lora: the LoRA file, if any.
        words: the embedding file of each pseudo-word.
        call: further arguments of the pipeline's call.
        v: the base predicts v, not epsilon.
        absent: parts that the base does without.
        shipped: the base comes with this package: its weights are half precision, which few CPUs compute in.
    """
    without = "".join(f", {part}=None" for part in absent)
    one_file = base.endswith((".safetensors", ".ckpt"))
    imports = [f"from diffusers import {pipeline}"]
    lines = []
    if shipped:
        imports.insert(0, "import torch")
        without += ", torch_dtype=torch.float32"
        if not Path(base, "vae").is_dir():
            imports[1] = f"from diffusers import AutoencoderKL, {pipeline}"
            without += f", vae=AutoencoderKL.from_pretrained({str(AUTOENCODER)!r}, torch_dtype=torch.float32)"
    if one_file and v:  # diffusers cannot tell it from the file
        imports[0] = f"from diffusers import DDIMScheduler, {pipeline}"
        lines.append(PREDICTS_V)
    lines += [f'pipe.load_lora_weights(".", weight_name="{lora}")'] if lora else []
    if pipeline == "StableDiffusionXLPipeline" and words:
        imports.append("from safetensors.torch import load_file")
        lines.append(LEGACY_END)
        lines += [TWO_ENCODERS.format(file=file, word=word) for word, file in words.items()]
    elif pipeline == "StableDiffusion3Pipeline" and words:
        imports.append("from safetensors.torch import load_file")
        lines.append(ROWS.format(words=dict(words)))
    else:
        lines += [f'pipe.load_textual_inversion("{file}", token="{word}")' for word, file in words.items()]
    return DIFFUSERS.format(
        imports="\n".join(imports),
        opened=f"{pipeline}.{'from_single_file' if one_file else 'from_pretrained'}({base!r}{without})",
        loading="\n".join(lines),
        prompt=prompt,
        call=", ".join(f"{k}={v!r}" for k, v in call.items()),
    )


def _files(words: Mapping[str, str]) -> str:
    return ", ".join(f"`{n}.safetensors`" for n in words.values())


def _installed(words: Mapping[str, str], folder: str) -> str:
    return f"the embeddings ({_files(words)}) into `{folder}`; " if words else ""


def in_a1111(lora: str | None, words: Mapping[str, str], prompt: str, tools: str = "A1111 and Forge") -> str:
    """``lora``: the LoRA file's name, if any. ``words``: each pseudo-word's embedding name."""
    install = f"`{lora}.safetensors` goes into `models/Lora`, " if lora else ""
    prompt = with_words(prompt, words) + (f" <lora:{lora}:1>" if lora else "")
    return A1111.format(tools=tools, lora=install, words=_installed(words, "embeddings"), prompt=prompt)


def in_checkpoint(name: str, words: Mapping[str, str], prompt: str) -> str:
    """``name``: the checkpoint's."""
    return CHECKPOINT.format(
        file=f"{name}.safetensors",
        words=_files(words),
        a1111=with_words(prompt, words),
        comfyui=comfyui_prompt(prompt, words),
    )


def in_comfyui(lora: str | None, words: Mapping[str, str], prompt: str) -> str:
    install = f"`{lora}.safetensors` goes into `models/loras` and a *Load LoRA* node at strength 1, " if lora else ""
    return COMFYUI.format(
        lora=install, words=_installed(words, "models/embeddings"), prompt=comfyui_prompt(prompt, words)
    )
