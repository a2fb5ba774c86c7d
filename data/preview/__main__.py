"""`python -m data.preview`: the command of data/preview/command.py."""

from data.preview.command import main
from utils.errors import run_command

if __name__ == "__main__":
    run_command(main)
