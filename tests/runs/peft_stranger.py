"""What another program makes of a run's adapter: `python peft_stranger.py BASE ADAPTER ROWS` prints the loss.

It knows transformers and peft alone, and fails where anything of ours was imported.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, rows = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base)
model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(adapter)))
model = PeftModel.from_pretrained(model, adapter)
total, count = 0.0, 0
for line in Path(rows).read_text().splitlines():
    row = json.loads(line)
    tokens = torch.tensor(row["tokens"])
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, :-1].double()
    losses = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
    learned = torch.tensor(row["learned"][1:])
    total += float(losses[learned].sum())
    count += int(learned.sum())
assert "trainer" not in sys.modules
print(json.dumps({"loss": total / count}))
