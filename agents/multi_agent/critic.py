"""What a critic is worth who is wrong at times: Bayes' rule, and the price of trying again. README, section 3."""


def accepted(p: float, true_accept: float, false_accept: float) -> float:
    """Share of answers that a critic lets through, of which `p` are right: p t + (1 - p) f, (3.1)."""
    return p * true_accept + (1 - p) * false_accept


def accepted_right(p: float, true_accept: float, false_accept: float) -> float:
    """Share of right ones among those let through: p t / (p t + (1 - p) f), (3.2). More than p exactly where t > f.

    Raises ValueError where nothing is ever let through.
    """
    through = accepted(p, true_accept, false_accept)
    if through <= 0:
        raise ValueError("a critic who accepts nothing tells nothing")
    return p * true_accept / through


def expected_attempts(p: float, true_accept: float, false_accept: float, attempts: int) -> float:
    """Mean number of answers written until one is let through, at most `attempts`: (1 - (1 - q)^k) / q, (3.3)."""
    through = accepted(p, true_accept, false_accept)
    return float(attempts) if through <= 0 else (1 - (1 - through) ** attempts) / through


def right_in_the_end(p: float, true_accept: float, false_accept: float, attempts: int) -> float:
    """Probability that the answer given is right, (3.4): the first one let through, or the last one where none was.

    New attempts must be independent of the old: a model that makes the same mistake each time gains nothing.
    """
    refused = 1 - accepted(p, true_accept, false_accept)
    let_through = sum(refused**k for k in range(attempts)) * p * true_accept
    return let_through + refused ** (attempts - 1) * p * (1 - true_accept)
