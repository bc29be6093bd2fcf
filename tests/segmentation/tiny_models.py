"""Tiny random checkpoints of the segmentation models, made with their real classes."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam2Config,
    Sam2Model,
    Sam3Config,
    Sam3Model,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    SamConfig,
    SamModel,
    SwinConfig,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
from transformers.models.sam3.configuration_sam3 import Sam3ViTConfig

from magictailor.weights import EMBEDDED


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")


def text_config(words: CLIPTokenizer, length: int = 77) -> dict[str, int]:
    return {
        "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": length, "eos_token_id": words.eos_token_id,
        "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id, "projection_dim": 16,
    }  # fmt: skip


def clipseg(folder: Path) -> Path:
    words = tokenizer()
    torch.manual_seed(0)
    config = CLIPSegConfig(
        text_config=text_config(words),
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        projection_dim=16, reduce_dim=8, extract_layers=[0, 1, 2], decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cat", "hair", "ears"])
    )
    words = BertTokenizerFast(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4, image_size=64,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6, max_text_len=16,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    words.save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def sam(folder: Path) -> Path:
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
            "patch_size": 16, "mlp_dim": 32, "num_pos_feats": 8, "window_size": 2, "global_attn_indexes": [0],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    SamModel(config).save_pretrained(folder)
    return folder


def sam2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "backbone_config": Sam2HieraDetConfig(
                hidden_size=8, image_size=[64, 64], blocks_per_stage=[1, 1, 1, 1], embed_dim_per_stage=[8, 16, 32, 64],
                num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 2, 2, 2],
                global_attention_blocks=[], window_positional_embedding_background_size=[4, 4],
            ),
            "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    Sam2Model(config).save_pretrained(folder)
    return folder


def sam3_points(folder: Path) -> Path:
    """The part of SAM 3 that takes clicks."""
    torch.manual_seed(0)
    config = Sam3TrackerConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": Sam3ViTConfig(
                hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=56,
                patch_size=14, window_size=2, global_attn_indexes=[0], pretrain_image_size=28,
            ),
            "fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 56, "patch_size": 14, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    Sam3TrackerModel(config).save_pretrained(folder)
    return folder


def sam3(folder: Path) -> Path:
    words = tokenizer()
    torch.manual_seed(0)
    config = Sam3Config(
        vision_config={
            "backbone_config": Sam3ViTConfig(
                hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=56,
                patch_size=14, window_size=2, global_attn_indexes=[0], pretrain_image_size=28,
            ),
            "fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config=text_config(words, 32),
        geometry_encoder_config={"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        detr_encoder_config={"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        detr_decoder_config={
            "hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_queries": 6,
        },
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    Sam3Model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
