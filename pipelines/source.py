"""Stage `source`: looks whether the text source changed, every time; `data/source.json` is rewritten only if it did."""

from dataclasses import asdict

from llmm.corpus.sources import SourceState, open_source
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.params import Params
from llmm.paths import SOURCE
from pipelines.stage import run_stage


def known_state() -> SourceState | None:
    """The state that the last run saw, None where there is none that can be read."""
    try:
        return SourceState(**read_json(SOURCE))
    except (UserError, TypeError):
        return None


def main(params: Params) -> None:
    """Write `data/source.json` if it is not true any more."""
    known = known_state()
    state = open_source(params.corpus).state(known)
    if state == known:
        print(f"{state.label}: unchanged")
        return
    write_json(SOURCE, asdict(state))
    print(f"{state.label}: {state.documents if state.documents is not None else 'unknown number of'} files")


if __name__ == "__main__":
    run_stage("source", main)
