"""`python -m medrecon` is the command `medrecon`."""

from medrecon.cli.app import main

if __name__ == "__main__":
    main()
