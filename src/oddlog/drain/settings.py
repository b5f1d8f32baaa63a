"""The settings of masks and tree; a model folder keeps them with the templates."""

from __future__ import annotations

from pydantic import Field

from oddlog.config import Config
from oddlog.masks import Masks


class DrainConfig(Config):
    """Settings of masks and tree.

    Attributes:
        depth: Levels of the tree with root, length and leaf; 4 looks at the first token.
        similarity: Least share of equal tokens to join a template while learning.
        max_children: Most branches of a node of the tree.
        max_templates: Beyond this many, learning founds no template: such messages get -1, are
            counted, and are novel later. Novelties have a limit of the same size of their own.
        max_tokens: Tokens after this many are not looked at.
        max_chars: Characters after this many are not looked at, nor masked.
        masks: What is replaced before the tree sees a message.
    """

    depth: int = Field(5, ge=3)
    similarity: float = Field(0.7, ge=0, le=1)
    max_children: int = Field(100, ge=1)
    max_templates: int = Field(20_000, ge=1)
    max_tokens: int = Field(512, ge=1)
    max_chars: int = Field(16_384, ge=1)
    masks: Masks = Masks()
