"""What theory says of depth at initialisation: the size of the residual stream and of the last layer's gradient.

Source: Xiong et al. 2020 (2002.04745), lemma 2 and theorem 1; derived in the README, sections 3 and 4.
"""

import math
from typing import Literal

Norms = Literal["pre", "post", "sandwich", "none"]


def predicted_variance(norms: Norms, layers: int, start: float, branches: float) -> float:
    """The residual stream's variance after `layers` blocks, from that at the start and what both branches add.

    `branches` is what both branches of a block add to a stream of variance one.
    Equations (3.5) to (3.8): pre start + l·branches, sandwich start + 2 l, post 1 (from the first block on); without
    norms each block multiplies by 1 + branches, so long as branches answer in proportion.
    """
    if norms == "pre":
        return start + layers * branches
    if norms == "sandwich":
        return start + 2.0 * layers
    if norms == "post":
        return 1.0 if layers else start
    return start * (1 + branches) ** layers


def predicted_gradient_ratio(norms: Norms, shallow: int, deep: int, start: float, branches: float) -> float:
    """How many times smaller the last layer's gradient is at depth `deep` than at `shallow`, equation (4.3).

    The last norm divides by the length of what it gets: √(variance deep / variance shallow); 1 for post.
    """
    lengths = [predicted_variance(norms, layers, start, branches) for layers in (deep, shallow)]
    return math.sqrt(lengths[0] / lengths[1])
