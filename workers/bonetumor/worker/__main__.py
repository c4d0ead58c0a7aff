"""`python -m bonetumor.worker` is `bonetumor`."""

from bonetumor.worker.cli import main

if __name__ == "__main__":
    main()
