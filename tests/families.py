"""Tiny checkpoints of today's families: random weights, the real classes of pipelines, models and tokenizers."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from magictailor.backbones.native_names import FLUX2, QWEN_IMAGE, Z_IMAGE, native_layer
from magictailor.weights import EMBEDDED

TEXT = ["a photo of sks person with ktn hair and pll hat on the beach, system user assistant"] * 4
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT_OF_PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endfor %}"
)
DIM = 16


@cache
def qwen_vocabulary() -> tuple[dict[str, int], list[Any]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def qwen_tokenizer(template: str = CHAT) -> Qwen2Tokenizer:
    vocab, merges = qwen_vocabulary()
    tokenizer = Qwen2Tokenizer(vocab=dict(vocab), merges=merges)
    tokenizer.chat_template = template
    return tokenizer


@cache
def t5_vocabulary() -> list[Any]:
    """Once: its training depends on the order of a hash table."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        TEXT, trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>")
    )
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


def t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=list(t5_vocabulary()), extra_ids=0)


def gemma_tokenizer() -> GemmaTokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    text = [line.replace(" ", "▁") for line in TEXT]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=60, special_tokens=special))
    model = json.loads(tokenizer.to_str())["model"]
    return GemmaTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])


def t5(tokenizer: T5Tokenizer, dim: int = DIM) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=dim, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def clip(tokenizer: CLIPTokenizer, projected: bool = False) -> Any:
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, projection_dim=8, **ends,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def clip_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")


def qwen3(kind: Any, tokenizer: Any, layers: int) -> Any:
    return kind(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=1, head_dim=4,
        )
    )  # fmt: skip


def vae(channels: int, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), latent_channels=channels, norm_num_groups=4, sample_size=16, **more,
    )  # fmt: skip


def flow(**more: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**more)


def sd3(with_t5: bool = True) -> StableDiffusion3Pipeline:
    first, third = clip_tokenizer(), t5_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, num_layers=3, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=DIM, caption_projection_dim=16, pooled_projection_dim=16, out_channels=16,
            pos_embed_max_size=8, qk_norm="rms_norm", dual_attention_layers=(0,),
        ),
        scheduler=flow(shift=3.0), vae=vae(16, scaling_factor=1.5, shift_factor=0.06),
        text_encoder=clip(first, True), tokenizer=first, text_encoder_2=clip(first, True), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(third) if with_t5 else None, tokenizer_3=third if with_t5 else None,
    )  # fmt: skip


def flux() -> FluxPipeline:
    first, second = clip_tokenizer(), t5_tokenizer()
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=DIM, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
        ),
        scheduler=flow(shift=3.0, use_dynamic_shifting=True), vae=vae(4, scaling_factor=0.36, shift_factor=0.11),
        text_encoder=clip(first), tokenizer=first, text_encoder_2=t5(second), tokenizer_2=second,
    )  # fmt: skip


def flux2_parts(text_dim: int) -> dict[str, Any]:
    autoencoder = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4, sample_size=16,
    )  # fmt: skip
    autoencoder.bn.running_mean.uniform_(-0.2, 0.2)
    autoencoder.bn.running_var.uniform_(0.5, 2)
    return {"vae": autoencoder, "scheduler": flow(shift=3.0, use_dynamic_shifting=True)}


def flux2_transformer(text_dim: int, guided: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=text_dim, timestep_guidance_channels=16, axes_dims_rope=(2, 2, 2, 2), guidance_embeds=guided,
    )  # fmt: skip


def flux2_klein() -> Flux2KleinPipeline:
    tokenizer = qwen_tokenizer()
    return Flux2KleinPipeline(
        transformer=flux2_transformer(24, False), text_encoder=qwen3(Qwen3ForCausalLM, tokenizer, 28),
        tokenizer=tokenizer, **flux2_parts(24),
    )  # fmt: skip


def flux2_dev() -> Flux2Pipeline:
    tokenizer = qwen_tokenizer(CHAT_OF_PARTS)
    text = {
        "model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 31, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=vision, image_token_index=5)
    )
    return Flux2Pipeline(
        transformer=flux2_transformer(24, True), text_encoder=encoder, tokenizer=tokenizer, **flux2_parts(24)
    )


def z_image() -> ZImagePipeline:
    tokenizer = qwen_tokenizer()
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(
            in_channels=4, dim=16, n_layers=3, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=8,
            axes_dims=[4, 2, 2], axes_lens=[640, 32, 32],
        ),
        text_encoder=qwen3(Qwen3Model, tokenizer, 2), tokenizer=tokenizer, scheduler=flow(shift=3.0),
        vae=vae(4, scaling_factor=0.36, shift_factor=0.11),
    )  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    tokenizer = qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 10000.0},
    }  # fmt: skip
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_heads": 2, "depth": 1, "out_hidden_size": 8}
    ids = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=8, axes_dims_rope=(2, 2, 4),
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)),
        tokenizer=tokenizer, scheduler=flow(use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
            latents_mean=[0.1, -0.1, 0.0, 0.2], latents_std=[1.1, 0.9, 1.0, 1.2],
        ),
    )  # fmt: skip


def sana() -> SanaPipeline:
    tokenizer = gemma_tokenizer()
    encoder = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    return SanaPipeline(
        transformer=SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=3, num_attention_heads=2, attention_head_dim=4,
            num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
            sample_size=8, patch_size=1,
        ),
        text_encoder=Gemma2Model(encoder), tokenizer=tokenizer,
        vae=AutoencoderDC(
            in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "ResBlock"),
            decoder_block_types=("ResBlock", "ResBlock"), encoder_block_out_channels=(8, 16),
            decoder_block_out_channels=(8, 16), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), scaling_factor=0.41,
        ),
        scheduler=DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd3": sd3, "flux": flux, "flux2-klein-4b": flux2_klein, "flux2-dev": flux2_dev, "z-image": z_image,
    "qwen-image": qwen_image, "sana": sana,
}  # fmt: skip
SIZE = 32  # pixels: what the tests train at


def pipeline(family: str) -> Any:
    """A pipeline whose random weights give more than zeros."""
    torch.manual_seed(0)
    made = BUILDERS[family]()
    made.set_progress_bar_config(disable=True)
    with torch.no_grad():
        for parameter in made.transformer.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)
    return made


def save(family: str, folder: Path) -> Path:
    """The pipeline in diffusers format."""
    pipeline(family).save_pretrained(folder)
    return folder


# --- in the names of the authors' own code, in one file, as ComfyUI keeps it

_FLUX2 = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
    "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
    "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
    "single_stream_modulation.linear": "single_stream_modulation.lin",
    ".attn.norm_q.weight": ".img_attn.norm.query_norm.scale", ".attn.norm_k.weight": ".img_attn.norm.key_norm.scale",
    ".attn.norm_added_q.weight": ".txt_attn.norm.query_norm.scale",
    ".attn.norm_added_k.weight": ".txt_attn.norm.key_norm.scale",
    ".ff.linear_in": ".img_mlp.0", ".ff.linear_out": ".img_mlp.2",
    ".ff_context.linear_in": ".txt_mlp.0", ".ff_context.linear_out": ".txt_mlp.2",
}  # fmt: skip
_Z_IMAGE = {
    "all_final_layer.2-1.": "final_layer.",
    "all_x_embedder.2-1.": "x_embedder.",
    ".norm_q.": ".q_norm.",
    ".norm_k.": ".k_norm.",
}
NATIVE = {"flux2-klein-4b": (FLUX2, _FLUX2), "z-image": (Z_IMAGE, _Z_IMAGE), "qwen-image": (QWEN_IMAGE, {})}


def native_state(family: str, transformer: Any) -> dict[str, Tensor]:
    """The transformer's weights in one file's names; layers that are one there are stacked."""
    table, renamed = NATIVE[family]
    out: dict[str, Tensor] = {}
    state = transformer.state_dict()
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        try:
            native = native_layer(module, table)
        except ValueError:
            if family == "flux2-klein-4b" and key.startswith("single_transformer_blocks"):
                key = key.replace(".attn.norm_q.weight", ".norm.query_norm.scale").replace(
                    ".attn.norm_k.weight", ".norm.key_norm.scale"
                )
            if family.startswith("flux2") and key.startswith("norm_out.linear"):  # scale and shift change places
                key, tensor = "final_layer.adaLN_modulation.1.weight", torch.cat(tensor.chunk(2)[::-1])
            for old, new in renamed.items():
                key = key.replace(old, new)
            blocks = {"single_transformer_blocks.": "single_blocks.", "transformer_blocks.": "double_blocks."}
            for old, new in blocks.items() if family.startswith("flux2") else ():
                key = key.replace(old, new) if key.startswith(old) else key
            out[key] = tensor
            continue
        out[f"{native.name}.{kind}"] = torch.cat([state[f"{part}.{kind}"] for part in native.modules]).contiguous()
    return {k: v.contiguous() for k, v in out.items()}
