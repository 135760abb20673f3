"""shardtune: one YAML recipe in, a fine-tuned language model out."""

from trainer.errors import ShardtuneError

__version__ = "0.1.0"
__all__ = ["ShardtuneError", "__version__"]
