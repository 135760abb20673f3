"""The base of every recipe section: frozen, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings as the user gave them; never changed after they are read.

    The text below each field describes it; schema.py alone reads it, because that takes a start 50 ms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
