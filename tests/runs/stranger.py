"""What another program makes of a run's model: `python stranger.py MODEL ROWS` prints the loss of completion rows.

It knows transformers alone, and fails where anything of ours was imported.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
total, count = 0.0, 0
for line in Path(sys.argv[2]).read_text().splitlines():
    row = json.loads(line)
    tokens = torch.tensor(row["tokens"])
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, :-1].double()
    losses = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
    learned = torch.tensor(row["learned"][1:])
    total += float(losses[learned].sum())
    count += int(learned.sum())
assert "trainer" not in sys.modules
assert tokenizer.eos_token is not None
print(json.dumps({"loss": total / count, "dtype": str(model.dtype)}))
