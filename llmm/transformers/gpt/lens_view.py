"""The logit lens and the heads' attention over a text of one's own: numbers, a table, figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from llmm.errors import UserError
from llmm.training.pretraining.folder import PretrainedModel
from llmm.training.tokenizer.special import END_OF_TEXT
from llmm.transformers.gpt.lens import Lens, attention_patterns, logit_lens

MOST_TOKENS = 64  # more cannot be read in a figure


@dataclass(frozen=True)
class View:
    """A text as tokens, what each layer says after each of them, and where each head looks, (L, H, T, T)."""

    tokens: list[str]
    lens: Lens
    attention: Tensor
    spell: Callable[[int], str]

    def as_json(self) -> dict[str, Any]:
        """For each token its text, and the layers' answers with their probabilities and divergences."""
        rows = zip(self.lens.token.tolist(), self.lens.probability.tolist(), self.lens.nats.tolist(), strict=True)
        return {
            "tokens": self.tokens,
            "layers": [
                {
                    "next": [self.spell(token) for token in tokens],
                    "probability": [round(p, 4) for p in probabilities],
                    "nats_from_last": [round(n, 4) for n in nats],
                }
                for tokens, probabilities, nats in rows
            ],
            "settled_after_blocks": self.lens.settled().tolist(),
        }

    def render(self) -> None:
        """Print a table: a row a token, a column a layer."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("after")
        layers = len(self.lens.token)
        for layer in range(layers):
            table.add_column("embedding" if layer == 0 else f"block {layer}")
        for t, token in enumerate(self.tokens):
            cells = [Text(_shown(token), style="bold")]
            for layer in range(layers):
                said, p = self.spell(int(self.lens.token[layer, t])), float(self.lens.probability[layer, t])
                final = self.lens.token[layer, t] == self.lens.token[-1, t]
                cells.append(Text(f"{_shown(said)} {p:.0%}", style="" if final else "dim"))
            table.add_row(*cells)
        Console().print(table)

    def draw(self, folder: Path) -> list[Path]:
        """Write lens.svg and attention.png."""
        from llmm.transformers.gpt import plots

        return [
            plots.lens(
                self.lens, [_shown(t) for t in self.tokens], lambda i: _shown(self.spell(i)), folder / "lens.svg"
            ),
            plots.attention(self.attention, [_shown(t) for t in self.tokens], folder / "attention.png"),
        ]


def look(pretrained: PretrainedModel, text: str) -> View:
    """Read `text` as a document's beginning. Raises UserError where it is longer than a figure can show."""
    tokenizer = pretrained.tokenizer
    begin = tokenizer.token_to_id(END_OF_TEXT)
    if begin is None:
        raise UserError(f"the tokenizer has no {END_OF_TEXT}: it is not one of this pipeline")
    ids = [begin, *tokenizer.encode(text).ids]
    if len(ids) > MOST_TOKENS:
        raise UserError(f"the text has {len(ids) - 1} tokens, at most {MOST_TOKENS - 1} can be shown: shorten it")

    def spell(token: int) -> str:
        return tokenizer.decode([token], skip_special_tokens=False)

    patterns = attention_patterns(pretrained.gpt, ids)
    return View([spell(i) for i in ids], logit_lens(pretrained.gpt, ids), patterns, spell)


def _shown(token: str) -> str:
    """A token's text with its white space made visible."""
    visible = token.replace("\n", "⏎").replace(" ", "·")
    return "".join(character if character.isprintable() else "▯" for character in visible) or "∅"
