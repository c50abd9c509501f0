"""`onebit completion`: a script that completes the command's words in a shell."""

import argparse
from typing import Any

from onebit.cli.arguments import verb
from onebit.runtime import zoo

SHELLS = ("bash", "zsh", "tcsh")
DETAILS = """  onebit completion bash > ~/.local/share/bash-completion/completions/onebit
  onebit completion zsh > ~/.zfunc/_onebit        (~/.zfunc in fpath)"""


def add(verbs: Any) -> None:
    parser = verb(verbs, "completion", run, "Print a script that completes onebit's words in a shell", DETAILS)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import shtab

    script = shtab.complete(options.command, options.shell, preamble=preamble().get(options.shell, ""))
    return {"shell": options.shell, "script": script}, script


def preamble() -> dict[str, str]:
    """Functions that complete the files of models and the names of the zoo, by shell. For bash, ":" must not end a word."""
    names = " ".join(f"{zoo.PREFIX}{name}" for name in zoo.names())
    bash = f'compgen -f -- "$1"; compgen -W "{names}" -- "$1"'
    zsh = f"_files; compadd -- {names}" if names else "_files"
    return {
        "bash": f"COMP_WORDBREAKS=${{COMP_WORDBREAKS//:}}\n_onebit_model_files() {{ {bash}; }}",
        "zsh": f"_onebit_model_files() {{ {zsh} }}",
    }
