"""Arithmetic on a whitelist of syntax-tree nodes: no names, no attributes, no `eval`, and caps on the work."""

import ast
import math
import operator
from collections.abc import Callable

MAX_CHARS = 200
MAX_DIGITS = 60  # of any number on the way: no huge powers
MAX_EXPONENT = 200

Number = int | float


class CalculationError(Exception):
    """What is wrong with the expression, in words for the model."""


def _quotient(a: Number, b: Number) -> Number:
    """Whole where it divides, whatever its size."""
    if isinstance(a, int) and isinstance(b, int) and b and a % b == 0:
        return a // b
    return a / b


_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _quotient,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": lambda x: math.isqrt(x) if isinstance(x, int) and x >= 0 and math.isqrt(x) ** 2 == x else math.sqrt(x),
    "abs": abs,
    "round": lambda x: round(x),  # with digits it would compute any power of ten
    "min": min,
    "max": max,
}


def calculate(expression: str) -> str:
    """The value of `expression` as text: whole numbers exactly, others to ten significant digits.

    Raises CalculationError for anything that is no arithmetic, and for numbers beyond the caps.
    """
    if len(expression) > MAX_CHARS:
        raise CalculationError(f"the expression has more than {MAX_CHARS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        value = _value(tree.body)
    except CalculationError:
        raise
    except ZeroDivisionError:
        raise CalculationError("division by zero") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise CalculationError("no valid expression") from None
    except (OverflowError, ValueError, TypeError, ArithmeticError):
        raise CalculationError("no result in real numbers") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CalculationError("the result is no finite number")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else format(value, ".10g")
    return str(value)


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _capped(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _power(_value(node.left), _value(node.right))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _capped(_BINARY[type(node.op)](_value(node.left), _value(node.right)))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _FUNCTIONS
        and not node.keywords
    ):
        return _capped(_FUNCTIONS[node.func.id](*(_value(argument) for argument in node.args)))
    raise CalculationError("only numbers, + - * / // % **, brackets, " + ", ".join(_FUNCTIONS) + " are allowed")


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > MAX_EXPONENT:
        raise CalculationError(f"an exponent is above {MAX_EXPONENT}")
    if abs(base) > 1 and exponent > 0 and exponent * math.log10(abs(base)) > MAX_DIGITS:
        raise CalculationError(f"the result has more than {MAX_DIGITS} digits")
    return _capped(base**exponent)


def _capped(value: Number) -> Number:
    if isinstance(value, complex):
        raise CalculationError("no result in real numbers")
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise CalculationError(f"a number has more than {MAX_DIGITS} digits")
    return value
