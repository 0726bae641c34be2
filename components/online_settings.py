"""Features that are known of an entity before anybody asks: the section `online.features` of project.yaml."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.settings import Settings


class OnlineFeatures(Settings):
    """Which columns of `features.sql` a request may leave out, because they are known by the entity that it names."""

    entity: str | tuple[str, ...]
    """The column, or columns together, that name an entity: text or whole numbers."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Inputs of the model. Of each entity the latest row counts, by the column that the split by time has; without one,
    all its rows have to agree."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the entity."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity

    @model_validator(mode="after")
    def _names_each_once(self) -> OnlineFeatures:
        names = (*self.key, *self.columns)
        if not self.key or len(set(names)) < len(names):
            raise ValueError("at least one column as `entity`, and each column once in `entity` and `columns`")
        return self
