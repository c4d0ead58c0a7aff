"""What every group of settings is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Empty where there is none.
WebUrl = Annotated[str, Field(pattern=r"^(https?://[^/\s]+\S*)?$")]

# A code and its coding scheme; empty where there is none.
CodeText = Annotated[str, Field(pattern=r"^([^^\s]+\^[^^\s]+)?$")]


class Group(BaseModel):
    """Fields under one heading of the settings file; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def has_all(self, *names: str) -> bool:
        """Whether the fields are given; ValueError where only some are, which would be ignored."""
        given = [name for name in names if getattr(self, name) is not None]
        if given and len(given) < len(names):
            raise ValueError(f"expected {' and '.join(names)} together, got {given[0]} alone")
        return bool(given)
