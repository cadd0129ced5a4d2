"""Every optimizer of this milestone as one readable rule, in order of growing complexity.

A rule is a function (w, g, s, hyperparameters) → the new w:

    w   the parameter before the step, a tensor that the rule leaves as it is
    g   the gradient there, of the same shape
    s   what the optimizer remembers of this parameter: a dict, at first {"t": 1}, where t numbers the steps from 1

What a rule remembers begins at zero, so `s.get("m", 0)` is all the initialisation there is. `OneByOne` in
one_by_one.py makes a torch optimizer of any rule. The fast versions beside this file (foreach.py, adamw.py, muon.py,
soap.py, schedule_free.py) take the same steps and are tested equal; where they are hard to read, read here.
"""

import math

import torch
from torch import Tensor

from llmm.foundations.optimizers.one_by_one import State

# p(s) = a s + b s³ + c s⁵, README (26): the slope a at zero is as large as the wobble around one allows
QUINTIC = (3.4445, -4.7750, 2.0315)


# --- the gradient, and memory of it ---------------------------------------------------------------------------------


def sgd(w: Tensor, g: Tensor, s: State, *, lr: float = 0.01, weight_decay: float = 0.0) -> Tensor:
    """Gradient descent: w - lr · (g + λw). On a quadratic it needs O(κ) steps: README (5).

    λ is `weight_decay`, here the gradient of the penalty λ/2 ‖w‖² (for plain SGD the same as decoupled decay).
    """
    return w - lr * (g + weight_decay * w)


def momentum(w: Tensor, g: Tensor, s: State, *, lr: float = 0.01, mu: float = 0.9, weight_decay: float = 0.0) -> Tensor:
    """Heavy ball: b ← μb + (g + λw), w - lr · b. With the best lr and μ it needs O(√κ) steps: README (9).

    Source: Polyak 1964. The new gradient enters with weight 1 (no dampening), so the pace is lr / (1 - μ).
    """
    s["b"] = mu * s.get("b", 0) + (g + weight_decay * w)
    return w - lr * s["b"]


def nesterov(w: Tensor, g: Tensor, s: State, *, lr: float = 0.01, mu: float = 0.9, weight_decay: float = 0.0) -> Tensor:
    """Nesterov's momentum: b ← μb + (g + λw), w - lr · ((g + λw) + μb): pushed once more by the new b than momentum is.

    Here w is the point looked ahead to, where the gradient is taken: README (11). Source: Sutskever et al. 2013.
    """
    g = g + weight_decay * w
    s["b"] = mu * s.get("b", 0) + g
    return w - lr * (g + mu * s["b"])


# --- a scale for every coordinate -----------------------------------------------------------------------------------


def rmsprop(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Tensor:
    """RMSProp: v ← αv + (1-α)g², w - lr · g / (√v + ε), with g + λw in place of g.

    v is not corrected for its start at 0. Source: Hinton, lecture 6e of "Neural networks for machine learning", 2012.
    """
    g = g + weight_decay * w
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    return w - lr * g / (s["v"].sqrt() + eps)


def adam(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Tensor:
    """Adam: m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², w - lr · m̂ / (√v̂ + ε).

    m̂ = m / (1-β₁ᵗ) and v̂ = v / (1-β₂ᵗ) make up for the start at zero: README (13). λ is L2: g + λw in place of g, so
    the decay passes through the preconditioner. Source: 1412.6980, algorithm 1.
    """
    g = g + weight_decay * w
    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    m_hat = s["m"] / (1 - beta1 ** s["t"])
    v_hat = s["v"] / (1 - beta2 ** s["t"])
    return w - lr * m_hat / (v_hat.sqrt() + eps)


def adamw(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Tensor:
    """Adam's step from (1 - lr·λ) w: the decay is the same for every coordinate, README (16).

    Source: 1711.05101, algorithm 2 (there λ is not multiplied by lr; here as in every library it is).
    """
    return adam(w, g, s, lr=lr, beta1=beta1, beta2=beta2, eps=eps) - lr * weight_decay * w


def amsgrad(
    w: Tensor, g: Tensor, s: State, *, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> Tensor:
    """Adam with the largest v so far in place of v, so that steps never grow again: README (19).

    The maximum is taken before the bias correction, as torch does (1904.09237, algorithm 2, corrects nothing).
    """
    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    s["v_max"] = torch.maximum(s.get("v_max", torch.zeros_like(g)), s["v"])
    m_hat = s["m"] / (1 - beta1 ** s["t"])
    v_hat = s["v_max"] / (1 - beta2 ** s["t"])
    return w - lr * m_hat / (v_hat.sqrt() + eps)


def lion(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> Tensor:
    """Lion: (1 - lr·λ) w - lr · sign(β₁m + (1-β₁)g), and only then m ← β₂m + (1-β₂)g. Every coordinate moves by lr.

    Source: 2302.06675, algorithm 2.
    """
    m = s.get("m", torch.zeros_like(g))
    s["m"] = beta2 * m + (1 - beta2) * g
    return w - lr * (torch.sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)


# --- a matrix is more than its entries ------------------------------------------------------------------------------


def newton_schulz(G: Tensor, steps: int = 5, norm: str = "frobenius") -> Tensor:
    """Replace G (m, n) = U S Vᵀ by nearly U Vᵀ: X ← aX + bXXᵀX + cXXᵀXXᵀX, from X = G / (‖G‖ + 1e-7): README (25).

    ‖·‖ is the Frobenius norm, which bounds every singular value: the iteration begins with all of them in [0, 1]. So
    does the Schatten-4 norm, ‖GGᵀ‖^½, by which X is divided then: README (27.1).
    """
    a, b, c = QUINTIC
    X = G / (G.norm() + 1e-7)
    if norm == "schatten4":
        X = X / (X @ X.T).norm().sqrt().clamp(min=1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + b * A @ X + c * A @ A @ X
    return X


def muon(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 0.02,
    mu: float = 0.95,
    weight_decay: float = 0.0,
    newton_schulz_steps: int = 5,
    norm: str = "frobenius",
) -> Tensor:
    """Muon, for a matrix (m, n): Nesterov's momentum, made orthogonal; the steepest descent of README (22).

    m ← μm + (1-μ)g,  O = newton_schulz((1-μ)g + μm),  (1 - lr·λ) w - lr · √max(1, rows / columns) · O.
    Source: Jordan et al. 2024; the scale makes the change of the output independent of the shape (2409.20325).
    """
    rows, columns = w.shape
    s["m"] = mu * s.get("m", 0) + (1 - mu) * g
    orthogonal = newton_schulz((1 - mu) * g + mu * s["m"], newton_schulz_steps, norm)
    return w - lr * (max(1, rows / columns) ** 0.5 * orthogonal + weight_decay * w)


def normuon(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 0.02,
    mu: float = 0.95,
    beta2: float = 0.95,
    weight_decay: float = 0.0,
    newton_schulz_steps: int = 5,
    norm: str = "frobenius",
) -> Tensor:
    """NorMuon, for a matrix (m, n): Muon whose rows, one for each neuron, get lengths that are alike over time.

    O as in Muon,  v ← β₂v + (1-β₂) mean of O² over each row,  R = O / √v,  Muon's step with R ‖O‖ / ‖R‖ for O.
    Source: Li et al. 2025 (2510.05491), algorithm 1; there ‖R‖ is brought to 0.2 √(mn). README (27.3).
    """
    rows, columns = w.shape
    s["m"] = mu * s.get("m", 0) + (1 - mu) * g
    orthogonal = newton_schulz((1 - mu) * g + mu * s["m"], newton_schulz_steps, norm)
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * (orthogonal**2).mean(1, keepdim=True)
    even = orthogonal / s["v"] ** 0.5
    even = even * orthogonal.norm() / even.norm()
    return w - lr * (max(1, rows / columns) ** 0.5 * even + weight_decay * w)


def soap(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 3e-3,
    beta1: float = 0.95,
    beta2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    every: int = 10,
) -> Tensor:
    """SOAP: Adam in the eigenbasis of Shampoo's preconditioners L = E[ggᵀ] (m, m) and R = E[gᵀg] (n, n).

    m is kept in the original basis, v in the rotated one. The bases, s["Q_L"] and s["Q_R"], are found exactly from the
    first gradient, largest eigenvalue first, and then turned every `every` steps, after the update, by one step of
    orthogonal iteration: Q ← qr(LQ). That settles in falling order, and from a rising one the columns would change
    places and leave v behind: README (29). A parameter that is no matrix is moved by `adamw`. Source: 2409.11321,
    algorithm 3 with Adam's bias corrections; README (28).
    """
    if g.ndim != 2:
        return adamw(w, g, s, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    t = s["t"]
    s["L"] = beta2 * s.get("L", 0) + (1 - beta2) * g @ g.T
    s["R"] = beta2 * s.get("R", 0) + (1 - beta2) * g.T @ g
    if t == 1:
        s["Q_L"], s["Q_R"] = (torch.linalg.eigh(s[side]).eigenvectors.flip(1) for side in "LR")
    Q_L, Q_R = s["Q_L"], s["Q_R"]

    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * (Q_L.T @ g @ Q_R) ** 2
    m_hat = (Q_L.T @ s["m"] @ Q_R) / (1 - beta1**t)
    v_hat = s["v"] / (1 - beta2**t)
    step = Q_L @ (m_hat / (v_hat.sqrt() + eps)) @ Q_R.T

    if t % every == 0:
        s["Q_L"], s["Q_R"] = torch.linalg.qr(s["L"] @ Q_L).Q, torch.linalg.qr(s["R"] @ Q_R).Q
    return w - lr * (step + weight_decay * w)


# --- an average in place of a schedule ------------------------------------------------------------------------------


def schedule_free(w: Tensor, g: Tensor, s: State, *, lr: float = 0.1, beta: float = 0.9) -> Tensor:
    """Schedule-Free SGD: z ← z - lr · g,  x ← (1-c) x + c z with c = lr² / Σ lr²,  new w = (1-β) z + β x.

    Three points: z takes the steps, x averages them (equally while lr is constant: c = 1/t), and w between them is
    where the gradient is taken. x and z begin at w. s["x"] is the point to evaluate. Source: 2405.15682, (7) to (9).
    """
    x, z = s.get("x", w), s.get("z", w)
    s["z"] = z - lr * g
    s["lr_squares"] = s.get("lr_squares", 0) + lr**2
    c = lr**2 / s["lr_squares"] if s["lr_squares"] else 1.0
    s["x"] = (1 - c) * x + c * s["z"]
    return (1 - beta) * s["z"] + beta * s["x"]


def schedule_free_adamw(
    w: Tensor,
    g: Tensor,
    s: State,
    *,
    lr: float = 2.5e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
) -> Tensor:
    """`schedule_free` whose z takes steps of Adam without momentum; β₁ interpolates. Source: 2405.15682, algorithm 1.

    v ← β₂v + (1-β₂)g²,  z ← z - lr_t · (g / (√v + ε) + λw),  lr_t = lr · √(1-β₂ᵗ) · min(1, t / warmup_steps).
    """
    t = s["t"]
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    warm = min(1.0, t / warmup_steps) if warmup_steps else 1.0
    direction = g / (s["v"].sqrt() + eps) + weight_decay * w
    return schedule_free(w, direction, s, lr=lr * math.sqrt(1 - beta2**t) * warm, beta=beta1)
