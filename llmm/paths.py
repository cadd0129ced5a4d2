"""Where everything that the pipeline makes lies, relative to the project's root."""

from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
SOURCE = DATA / "source.json"
CORPUS = DATA / "corpus"
TOKENIZER = DATA / "tokenizer"
TOKENS = DATA / "tokens"
MODEL = DATA / "model"
ADAPTER = DATA / "adapter"
ENCODER = DATA / "encoder"
INDEX = DATA / "index"
METRICS = DATA / "metrics"  # deterministic figures, one JSON file a stage, in git
TIMINGS = DATA / "timings"  # seconds and memory, one JSON file a stage, in git
PLOTS = DATA / "plots"  # curves as CSV and JSON for `dvc plots`, in git
EVALS = DATA / "evals"  # hand-written evaluation sets, in git
EVALUATIONS = DATA / "evaluations"  # a row for every item that was evaluated, one JSON-lines file a stage
FIGURES = Path("visualizations")
WORK = Path(".work")  # checkpoints of runs in progress
