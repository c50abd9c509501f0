"""`onebit completion`: a script that completes the command's words in a shell."""

import argparse
from typing import Any

from onebit.cli.arguments import verb

SHELLS = ("bash", "zsh", "tcsh")
DETAILS = """  onebit completion bash > ~/.local/share/bash-completion/completions/onebit
  onebit completion zsh > ~/.zfunc/_onebit        (~/.zfunc in fpath)"""


def add(verbs: Any) -> None:
    parser = verb(verbs, "completion", run, "Print a script that completes onebit's words in a shell", DETAILS)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import shtab

    script = shtab.complete(options.command, options.shell)
    return {"shell": options.shell, "script": script}, script
