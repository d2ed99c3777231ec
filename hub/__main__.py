"""`python -m hub` is `hub`."""

from .cli import main

if __name__ == "__main__":
    main()
