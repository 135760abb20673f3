"""The adapters by their `adapter.kind`."""

from trainer.adapter import none

METHODS = {"none": none.apply}
