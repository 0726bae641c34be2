"""What a model may lose on its way to a user's own device: the section `edge` of project.yaml."""

from __future__ import annotations

from pydantic import Field

from components.settings import Settings


class Edge(Settings):
    """How `trilha export PROJECT --target edge` makes a model small; no part of a bundle."""

    loss: float = Field(default=0.005, ge=0)
    """How much worse the project's metric may become on the test split by smaller weights; 0: not at all."""
