"""Reranking by likelihood: of the documents that were found, which one makes the language model expect the query?

By Bayes, P(document | query) is proportional to P(query | document) P(document). The language model gives the first
factor; the order in which the documents were found stands for the second. No training is needed for it, and no
document of the list is compared with another, so their order in the prompt cannot matter.

Of a Python object the model reads the header alone, name and parameters, where a docstring is expected next. Reading
the body as well was better for queries without names, worse with them, and twice as slow (experiments_log.md).

Sources: Ponte & Croft 1998 (query likelihood); Sachan et al. 2022 (2204.07496), with large models and no first ranking.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from llmm.training.lora.dataset import split_by_tokens
from llmm.transformers.gpt import GPT

RERANKED = 20  # documents of a ranking that are read again
RANK_WEIGHT = 0.2  # of ln(rank), against nats a token; chosen on the validation split (experiments_log.md)
DOCUMENT_TOKENS, QUERY_TOKENS = 256, 64  # the end of a prompt, the beginning of a query
TOKENS_AT_ONCE = 1024  # padding included: some documents are ten times as long as others
_HEADER = re.compile(
    r"\s*(?:@[^\n]*\n\s*)*(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(.*?\)[^\n:]*|class[ \t]+\w+[ \t]*(?:\([^:]*?\))?)"
    r":(?=[ \t]*(?:#[^\n]*)?\n)",
    re.DOTALL,
)


def prompt_of(document: str) -> str:
    """What stands before the query where the model is asked how likely it is.

    Of a Python object its header and the opening of a docstring: there the model expects the line that the query is
    like. Of anything else the text and an empty line.
    """
    header = _HEADER.match(document)
    return f'{header.group()}\n    """' if header else f"{document}\n\n"


@torch.inference_mode()
def log_likelihoods(gpt: GPT, tokenizer: Tokenizer, query: str, documents: Sequence[str]) -> list[float]:
    """Mean ln P(query token | document, query so far), in nats a token, (7.2), for each document; 0 for an empty query.

    At most DOCUMENT_TOKENS tokens before the query are read, and QUERY_TOKENS of the query.
    """
    asked = tokenizer.encode(query, add_special_tokens=False).ids[:QUERY_TOKENS]
    if not asked:
        return [0.0] * len(documents)
    prompts = [tokenizer.encode(prompt_of(text), add_special_tokens=False).ids for text in documents]
    prompts = [tokens[-DOCUMENT_TOKENS:] for tokens in prompts]
    device = gpt.model.embed_tokens.weight.device
    target_T = torch.tensor(asked, device=device)
    lengths = sorted(((i, len(tokens) + len(asked)) for i, tokens in enumerate(prompts)), key=lambda item: item[1])
    found = [0.0] * len(prompts)
    for group in split_by_tokens(lengths, TOKENS_AT_ONCE):
        ids_BT = torch.zeros(len(group), len(prompts[group[-1]]) + len(asked), dtype=torch.long)
        for row, i in enumerate(group):  # padding stands on the right, where no real token looks
            ids_BT[row, : len(prompts[i]) + len(asked)] = torch.tensor([*prompts[i], *asked])
        hidden_BTD = gpt.hidden(ids_BT.to(device))
        for row, i in enumerate(group):
            start = len(prompts[i]) - 1  # there the model expects the query's first token
            logits_TV = gpt.lm_head(hidden_BTD[row, start : start + len(asked)])
            logits_TV = logits_TV.to(torch.promote_types(logits_TV.dtype, torch.float32))
            found[i] = -F.cross_entropy(logits_TV, target_T).item()
    return found


def reranked(gpt: GPT, tokenizer: Tokenizer, query: str, ranking: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """The ids of a ranking, the first RERANKED of them in the order of `rerank`; `texts` are the documents by id."""
    first = list(ranking[:RERANKED])
    order = rerank(log_likelihoods(gpt, tokenizer, query, [texts[key] for key in first]))
    return [*(first[place] for place in order), *ranking[RERANKED:]]


def rerank(likelihoods: Sequence[float], rank_weight: float = RANK_WEIGHT) -> list[int]:
    """The places 0 … n-1 of a ranking in their new order: by log-likelihood less rank_weight · ln(rank), ties as they
    were, (7.3). A weight of 0 forgets the first ranking, a large one keeps it."""
    ranks = np.arange(1, len(likelihoods) + 1)
    return [int(i) for i in np.argsort(-(np.asarray(likelihoods) - rank_weight * np.log(ranks)), kind="stable")]
