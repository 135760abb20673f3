"""How a step is computed over processes: plain torch, or DeepSpeed."""
