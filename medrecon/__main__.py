"""`python -m medrecon` is the command `medrecon`."""

from medrecon.cli import main

if __name__ == "__main__":
    main()
