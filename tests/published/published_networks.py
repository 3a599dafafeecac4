"""Tiny networks of other libraries with random weights, saved as their users save them."""

from collections.abc import Callable, Sequence
from typing import Any

from tokcli.backbones.torchvision import let_torchvision_import

let_torchvision_import()
import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers.models.emu3.configuration_emu3 import Emu3VQVAEConfig  # noqa: E402
from transformers.models.janus.configuration_janus import JanusVQVAEConfig  # noqa: E402


@torch.no_grad()
def spread(codebooks: Sequence[torch.Tensor], latents: torch.Tensor) -> None:
    """Codes (size, dim) where latents (dim, positions) lie: random networks leave theirs in a corner."""
    mean, deviation = latents.mean(1), latents.std(1)
    for number, codes in enumerate(codebooks):
        codes.normal_().mul_(deviation).add_(mean if number == 0 else 0)


def build_encodec(**changes: Any) -> Any:
    settings = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "codebook_dim": 16, "num_lstm_layers": 1}
    settings |= {"target_bandwidths": [1.5, 3.0, 6.0]}
    model = transformers.EncodecModel(transformers.EncodecConfig(**settings | changes))
    latents = model.encoder(torch.randn(1, model.config.audio_channels, 6400))[0]
    spread([layer.codebook.embed for layer in model.quantizer.layers], latents)
    return model


def build_dac() -> Any:
    return transformers.DacModel(
        transformers.DacConfig(
            encoder_hidden_size=8,
            decoder_hidden_size=32,
            n_codebooks=4,
            codebook_size=64,
            codebook_dim=4,
            downsampling_ratios=[2, 4, 5, 8],
            upsampling_ratios=[8, 5, 4, 2],
            sampling_rate=16000,
        )
    )


def build_mimi() -> Any:
    model = transformers.MimiModel(
        transformers.MimiConfig(
            num_filters=4,
            hidden_size=32,
            upsample_groups=32,
            codebook_size=64,
            codebook_dim=16,
            num_hidden_layers=1,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            vector_quantization_hidden_dimension=16,
            num_quantizers=4,
            sliding_window=20,
        )
    )
    for name, buffer in model.quantizer.named_buffers():
        if name.endswith("embed_sum"):
            buffer.normal_()
    return model


def build_xcodec() -> Any:
    model = transformers.XcodecModel(
        transformers.XcodecConfig(
            codebook_size=64,
            target_bandwidths=[0.3, 0.6],
            acoustic_model_config=transformers.DacConfig(
                encoder_hidden_size=8,
                decoder_hidden_size=32,
                hidden_size=16,
                downsampling_ratios=[8, 5, 4, 2],
                upsampling_ratios=[8, 5, 4, 2],
            ),
            semantic_model_config=transformers.HubertConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                conv_dim=[8] * 7,
            ),
        )
    )
    latents = model.fc(torch.randn(20, model.config.hidden_size)).T
    spread([quantizer.codebook.embed for quantizer in model.quantizer.quantizers], latents)
    return model


def build_janus() -> Any:
    return transformers.JanusVQVAE(
        JanusVQVAEConfig(
            embed_dim=4,
            num_embeddings=64,
            latent_channels=16,
            num_patches=4,
            base_channels=32,
            channel_multiplier=[1, 2],
            num_res_blocks=1,
        )
    )


def build_emu3() -> Any:
    return transformers.Emu3VQVAE(
        Emu3VQVAEConfig(
            codebook_size=64,
            embed_dim=4,
            latent_channels=4,
            base_channels=32,
            channel_multiplier=[1, 2],
            num_res_blocks=1,
            attn_resolutions=[2],
            hidden_size=64,
            num_attention_heads=1,
            temporal_downsample_factor=4,
        )
    )


def build_vqmodel(**changes: Any) -> Any:
    model = diffusers.VQModel(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=64,
        norm_num_groups=8,
        **changes,
    )
    spread([model.quantize.embedding.weight], model.encode(torch.randn(1, 3, 64, 64)).latents[0].flatten(1))
    return model


BUILDERS: dict[str, Callable[..., Any]] = {
    "encodec": build_encodec,
    "dac": build_dac,
    "mimi": build_mimi,
    "xcodec": build_xcodec,
    "janus": build_janus,
    "emu3": build_emu3,
    "vqmodel": build_vqmodel,
}
