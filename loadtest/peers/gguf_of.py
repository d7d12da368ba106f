"""A Hugging Face folder of the Llama family → one GGUF file in float16, for llama.cpp, without a vocabulary.

`python -m loadtest.peers.gguf_of DIR FILE`

llama.cpp's own converter wants a tokenizer that it knows, and `loadtest.peers.shapes` has none that anybody knows.
Needs safetensors, torch and gguf. Source of names and keys: the GGUF specification and gguf-py's constants.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

__all__ = ["main"]

LAYER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE: Final = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    config = json.loads((arguments.folder / "config.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(arguments.file, "llama")
    _describe(writer, config)
    for name, tensor in load_file(arguments.folder / "model.safetensors").items():
        array = tensor.to(torch.float32).numpy()
        target = _name(name.removesuffix(".weight"))
        if target.endswith(("attn_q", "attn_k")):
            heads = "num_attention_heads" if target.endswith("q") else "num_key_value_heads"
            array = _interleaved(array, config[heads])
        writer.add_tensor(
            f"{target}.weight", array if array.ndim == 1 else array.astype(np.float16)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _name(source: str) -> str:
    if source in WHOLE:
        return WHOLE[source]
    _, _, layer, part = source.split(".", 3)
    return f"blk.{layer}.{LAYER[part]}"


def _interleaved(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rotary pairs side by side, as llama.cpp has them, instead of in two halves."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


if __name__ == "__main__":
    main()
