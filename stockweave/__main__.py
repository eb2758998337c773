"""`python -m stockweave`, the same as the command `stockweave`."""

from stockweave.cli import main

if __name__ == "__main__":
    main()
