"""Makes `dvc plots show` and `dvc plots diff` work without a network: `python -m pipelines.plots_page`.

DVC's page loads Vega from a content network and is blank offline. This writes a template with the scripts inside, taken
from the installed package vl-convert-python, and names it in `.dvc/config.local`. Both are untracked, so a clone that
has not run this still has DVC's own page.
"""

import sys
from pathlib import Path

from llmm.errors import UserError
from llmm.files import write_text

TEMPLATE = Path(".dvc") / "plots" / "page.html"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>
  body { font-family: system-ui, sans-serif; margin: 2rem; }
  body > div { display: inline-block; margin: 0 2rem 2rem 0; vertical-align: top; }
  table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border: 1px solid #ccc; }
</style>
<script>SCRIPTS</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def page() -> str:
    """The template: one self-contained page of about a megabyte, with DVC's placeholders."""
    import vl_convert

    # DVC's plot templates are written in Vega-Lite 5
    version = [name for name in vl_convert.get_vegalite_versions() if name.lstrip("v").startswith("5.")][-1]
    scripts = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # its stub knows no default
    scripts = scripts.replace("</script", "<\\/script")
    return _PAGE.replace("SCRIPTS", scripts)


def main() -> None:
    """Write the template and point DVC at it. Raises UserError outside a DVC repository."""
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError

    try:
        config = Config(str(Path(".dvc").absolute())) if Path(".dvc").is_dir() else None
    except NotDvcRepoError:
        config = None
    if config is None:
        raise UserError("no .dvc folder here: run this in the project's folder")
    write_text(TEMPLATE, page())
    with config.edit("local") as local:
        local.setdefault("plots", {})["html_template"] = TEMPLATE.relative_to(".dvc").as_posix()
    print(f"{TEMPLATE}: `dvc plots show` needs no network now")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"plots_page: {error}", file=sys.stderr)
        sys.exit(1)
