"""The published checkpoint `25hz_v1`: where it lives and how its parameters are named."""

import re
from collections.abc import Callable

REPOSITORY = "vspeech/ESDCodec"
WEIGHTS = "esdcodec_25hz_16384_1024.safetensors"  # named safetensors, but written by torch.save
TEACHER_STATISTICS = "w2vbert2_mean_var_stats_emilia.pt"

# published name -> ours, first match wins; what no rule matches keeps its name
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^dac\.encoder\.block\.", "encoder."),
    (r"^dac\.semantic_vq\.embedding\.weight$", "semantic_quantizer.codebook"),
    (r"^dac\.semantic_vq\.embedding_proj\.", "semantic_quantizer.projection."),
    (r"^dac\.distill_projection\.", "semantic_decoder.0."),
    (r"^dac\.convnext\.(\d+)\.", lambda m: f"semantic_decoder.{int(m[1]) + 1}."),
    (r"^dac\.quantizer\.", "acoustic_quantizer."),
    (r"^dac\.sub_source\.embed\.", "condition_network.conv_in."),
    (r"^dac\.sub_source\.norm\.", "condition_network.norm_in."),
    (r"^dac\.sub_source\.convnext\.", "condition_network.blocks."),
    (r"^dac\.sub_source\.final_layer_norm\.", "condition_network.norm_out."),
    (r"^dac\.sub_source\.mag_out_block\.1\.", "condition_network.head.log_magnitude."),
    (r"^dac\.sub_source\.phase_out_block\.1\.", "condition_network.head.phase."),
    (r"^dac\.decoder\.first_layer\.", "decoder.conv_in."),
    (r"^dac\.decoder\.ups\.(\d+)\.0\.", r"decoder.stages.\1.snake."),
    (r"^dac\.decoder\.ups\.(\d+)\.1\.", r"decoder.stages.\1.upsample."),
    (r"^dac\.decoder\.res_blocks\.(\d+)\.", r"decoder.stages.\1.residual_units."),
    (r"^dac\.decoder\.down_blocks\.", "decoder.subband_encoder.convs."),
    (r"^dac\.decoder\.post_layer\.0\.", "decoder.snake_out."),
    (r"^dac\.decoder\.post_layer\.1\.", "decoder.conv_out."),
]
PREFIX = "dac."
CONSTANTS = {"dac.sub_source.istft.window"}  # stored, but follows from the configuration


def our_name(published: str) -> str:
    """Name in `ESDCodec.state_dict()` of a parameter of the published checkpoint."""
    for pattern, replacement in _RULES:
        name, found = re.subn(pattern, replacement, published)
        if found:
            return name.replace(".block.", ".")  # encoder blocks and residual units wrap their layers once more
    return published
