"""`python -m magictailor`, for launchers."""

from magictailor.cli import main

if __name__ == "__main__":
    main()
