"""Presets: many keys of params.yaml set at once, its comments kept."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import write_text
from llmm.params import Params, load_params, validate
from llmm.paths import PARAMS

FOLDER = Path("presets")


def known_presets(folder: Path = FOLDER) -> list[str]:
    """Names of the presets in `folder`."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def apply_preset(name: str, params: Path = PARAMS, folder: Path = FOLDER) -> list[str]:
    """Set the keys of the preset `name` in the file `params`; returns "key: old -> new" for those that changed.

    Raises UserError for an unknown preset, or one that does not fit the rest of the file, which then stays as it was.
    """
    from ruamel.yaml import YAML

    if name not in known_presets(folder):
        raise UserError(f"no preset {name!r}: expected one of {', '.join(known_presets(folder))}")
    yaml = YAML()
    yaml.width = 200
    yaml.preserve_quotes = True
    values = yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    text = params.read_text(encoding="utf-8")
    tree = yaml.load(text)
    changes: list[str] = []
    _overlay(tree, values, "", changes)
    validate(YAML(typ="safe", pure=True).load(_dump(yaml, tree)), params)
    if changes:
        write_text(params, _dump(yaml, tree))
    return changes


def params_of(name: str, params: Path = PARAMS, folder: Path = FOLDER) -> Params:
    """The parameters that `params` would hold after `apply_preset`; "default" are those that it holds.

    Raises UserError for an unknown preset, or one that does not fit the rest of the file.
    """
    if name == "default":
        return load_params(params)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / params.name
        shutil.copyfile(params, copy)
        apply_preset(name, copy, folder)
        return load_params(copy)


def _overlay(tree: Any, values: Any, prefix: str, changes: list[str]) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                raise UserError(f"presets: {name} is no section of params.yaml")
            _overlay(tree[key], value, f"{name}.", changes)
        elif tree.get(key) != value:
            changes.append(f"{name}: {tree.get(key)} -> {value}")
            tree[key] = value


def _dump(yaml: Any, tree: Any) -> str:
    import io

    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()
