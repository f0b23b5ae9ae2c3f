"""`python -m syllabary` is the `syllabary` command."""

from .cli.main import main

if __name__ == "__main__":
    main()
