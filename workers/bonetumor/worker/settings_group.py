"""What every group of settings is."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Fields under one heading of the settings file; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
