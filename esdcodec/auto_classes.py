"""What a saved folder tells `transformers`: which classes of this package its Auto classes are to use."""

from typing import Any

CONFIG_ENTRIES = {
    "architectures": ["ESDCodecModel"],
    "auto_map": {"AutoConfig": "modeling_esdcodec.ESDCodecConfig", "AutoModel": "modeling_esdcodec.ESDCodecModel"},
}
WRITTEN_BY_TRANSFORMERS = {  # into a config.json, beside the network's settings
    *CONFIG_ENTRIES,
    *("_name_or_path", "dtype", "torch_dtype", "transformers_version"),
}
CODE = "modeling_esdcodec.py"
CODE_TEXT = '''"""For `AutoModel.from_pretrained(folder, trust_remote_code=True)`: all code is in the package."""

from esdcodec.infer.transformers import ESDCodecConfig, ESDCodecModel

__all__ = ["ESDCodecConfig", "ESDCodecModel"]
'''
FEATURE_EXTRACTOR = "preprocessor_config.json"


def feature_extractor(sample_rate: int) -> dict[str, Any]:
    """Settings of EnCodec's feature extractor for audio of `sample_rate` Hz: it does all that is to be done here."""
    return {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": sample_rate,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": True,
    }
