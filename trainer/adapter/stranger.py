"""What another program makes of an adapter: `python stranger.py ASKED.json LOGITS.npy`; it knows transformers and peft.

ASKED.json holds base, revision, head (a class of transformers), dtype, quantization (keys of BitsAndBytesConfig, or
null), trust_remote_code, adapter (a folder), tokens (of its tokenizer) and ids [1, S].
"""

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Loads the base as it was, puts the adapter on it, and writes what it says in float32."""
    import numpy as np
    import torch
    import transformers
    from peft import PeftModel

    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    trusted = {"trust_remote_code": asked["trust_remote_code"]}
    if asked["quantization"] is not None:
        trusted["quantization_config"] = transformers.BitsAndBytesConfig(**asked["quantization"])
    config = transformers.AutoConfig.from_pretrained(
        asked["base"], revision=asked["revision"], trust_remote_code=asked["trust_remote_code"]
    )
    for name, value in asked["head_config"].items():
        setattr(config, name, value)
    kind = getattr(transformers, asked["head"])
    dtype = getattr(torch, asked["dtype"])
    model = kind.from_pretrained(asked["base"], revision=asked["revision"], config=config, dtype=dtype, **trusted)
    if asked["tokens"] > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(asked["tokens"], mean_resizing=False)
    # In the types that it was saved in: rounding alone would change outputs of deep models in bfloat16 by 2 %.
    wrapped = PeftModel.from_pretrained(model, asked["adapter"], autocast_adapter_dtype=False).eval()
    for module in wrapped.modules():
        # And in the layout of training, where bitsandbytes would take another one.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    # A base in 4 or 8 bits lies on a device where there is one.
    ids = torch.tensor(asked["ids"], device=model.device)
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.no_grad():
        said = wrapped(input_ids=ids, **more)
    # A body without a head says what it ends with.
    logits = said["logits"] if "logits" in said else said[0]
    # Some adapters stand before the row, and a model says something of their places too.
    logits = logits[:, -ids.shape[1] :] if logits.dim() == 3 else logits
    np.save(sys.argv[2], logits.float().cpu().numpy())


if __name__ == "__main__":
    main()
