"""TRL's SFTTrainer on prompts and completions; packed rows are padding-free."""

from datasets import Dataset
from hugging_face import arguments, lora, model, tokenizer
from probe import Probe
from trl import SFTConfig, SFTTrainer
from work import read

work = read(quantizes=True)
words = tokenizer(work)
probe = Probe(work.folder, len(words), -1 if work.packed else words.pad_token_id)
rows = Dataset.from_list(
    [
        {
            "prompt": [{"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for asked, answer in work.messages()
    ]
)
length = None if work.packed else work.max_length
settings = SFTConfig(**arguments(work), max_length=length, padding_free=work.packed)
trainer = SFTTrainer(
    model=model(work), args=settings, train_dataset=rows, peft_config=lora(work), processing_class=words
)
trainer.train()
probe.close(["trl", "transformers", *(["peft"] if work.lora else [])])
