"""The command `medrecon`, also as `python -m medrecon`; neither takes code from the current folder."""

from medrecon.compute.safe_path import SAFE, forget_current_folder

forget_current_folder()  # before anything else is imported


def main() -> None:
    """Run the command line and end the process."""
    import os

    os.environ.update(SAFE)  # for all that this process starts
    # Threads that spin while they wait for each other take the cores that other work shares with them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from medrecon.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
