"""The texts of the experiments: modules of the standard library, their docstrings, and one sentence in many languages.

The sentences are Article 1 of the Universal Declaration of Human Rights, the most translated text there is: the same
content in each, so their token counts compare. One sentence a language says something about scripts, and nothing about
a language as a whole.
"""

import ast
import sysconfig
from pathlib import Path

TRAIN = (
    "argparse", "calendar", "configparser", "csv", "difflib", "doctest", "ftplib", "inspect", "locale", "mailbox",
    "optparse", "pdb", "pickle", "pydoc", "shutil", "smtplib", "socket", "subprocess", "tarfile", "threading", "typing",
    "zipfile",
)  # fmt: skip
HELD_OUT = ("ast", "cgi", "cmd", "codecs", "fractions", "gzip", "heapq", "imaplib", "random", "statistics", "textwrap")

ARTICLE_1 = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit "
    "Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены "
    "разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. "
    "Είναι προικισμένοι με "
    "λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と"
    "良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त "
    "है। उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और "
    "परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
}


def modules(names: tuple[str, ...]) -> list[str]:
    """The source of modules of the standard library that this interpreter has."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [path.read_text(encoding="utf-8") for name in names if (path := folder / f"{name}.py").is_file()]


def docstrings(sources: list[str]) -> str:
    """All docstrings of the sources, one after the other: English prose about code."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    return "\n\n".join(doc for node in nodes if (doc := ast.get_docstring(node)))
