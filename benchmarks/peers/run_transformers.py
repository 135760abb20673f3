"""transformers' Trainer, with peft; packed rows are its padding-free collator's."""

from datasets import Dataset
from hugging_face import arguments, lora, model, tokenizer
from probe import Probe
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, Trainer, TrainingArguments, set_seed
from work import read

work = read(quantizes=True)
words = tokenizer(work)
probe = Probe(work.folder, len(words), -1 if work.packed else words.pad_token_id)


def encoded(asked: str, answer: str) -> dict[str, list[int]]:
    """One row, of which the answer is learned."""
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    before = words.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=True, return_dict=False)
    ids = words.apply_chat_template(turns, tokenize=True, return_dict=False)[: work.max_length]
    return {"input_ids": ids, "labels": [-100] * len(before) + ids[len(before) :]}


rows = Dataset.from_list([encoded(*row) for row in work.messages()])
collator = DataCollatorWithFlattening() if work.packed else DataCollatorForSeq2Seq(words, label_pad_token_id=-100)
trained = model(work)
if work.lora is not None:
    from peft import get_peft_model

    set_seed(work.seed)
    trained = get_peft_model(trained, lora(work))
settings = TrainingArguments(**arguments(work))
Trainer(model=trained, args=settings, train_dataset=rows, data_collator=collator, processing_class=words).train()
probe.close(["transformers", "accelerate", *(["peft"] if work.lora else [])])
