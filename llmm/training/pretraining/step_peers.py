"""Models of others with the pretraining's sizes and loss, to be timed beside it: `transformers`' and plain torch's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.families import to_config_json


class TransformersModel(nn.Module):
    """`transformers`' Qwen3 of the same configuration: the same arithmetic in other hands."""

    def __init__(self, config: GPTConfig, seq_len: int) -> None:
        """`seq_len` is not needed: its positions are angles."""
        super().__init__()
        from transformers import Qwen3Config, Qwen3ForCausalLM

        self.inner = Qwen3ForCausalLM(Qwen3Config(**to_config_json(config))).float()

    def loss(self, ids_BT: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, of each token after the first."""
        logits_BTV = self.inner(ids_BT[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten())


class TorchModel(nn.Module):
    """GPT-2's architecture out of torch's own modules: learned positions, `nn.TransformerEncoderLayer`, tied LM head.

    Its MLP has two matrices and is half as wide again as SwiGLU's three, so that parameters and FLOPs are the same.
    """

    def __init__(self, config: GPTConfig, seq_len: int) -> None:
        """`seq_len` is the number of learned positions."""
        super().__init__()
        width = config.d_model
        self.embed = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.positions = nn.Parameter(torch.zeros(seq_len, width))
        layer = nn.TransformerEncoderLayer(
            width, config.n_head, 3 * config.d_ff // 2, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
        )
        self.layers = nn.TransformerEncoder(
            layer, config.n_layer, nn.LayerNorm(width, bias=False), enable_nested_tensor=False
        )
        self.read_out = nn.Linear(width, config.vocab_size, bias=False)
        self.read_out.weight = self.embed.weight
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(seq_len), persistent=False)

    def loss(self, ids_BT: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, of each token after the first."""
        x_BTD = self.embed(ids_BT[:, :-1]) + self.positions
        logits_BTV = self.read_out(self.layers(x_BTD, mask=self.mask, is_causal=True))
        return F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten())
